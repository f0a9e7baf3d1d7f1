"""The report's words: what lines, systems, metrics and plots are called. An unknown name stands as it is."""

from __future__ import annotations

LINES = {
    "images": ("Images", "Is this image real or forged?"),
    "counts": ("Counts", "How many thinking units will this question cost?"),
    "text": ("Text", "Which class is this text?"),
    "vlm": ("Corridors", "How dangerous is this corridor?"),
}

# What a metrics file is judged by: file, system (None: the variant that val chose), metric, baselines beside it.
HEADLINES = {
    "images": ("cascade", "cascade", "balanced_accuracy", ("stage1", "refit_cascade", "majority")),
    "counts": ("counts", None, "spearman", ("tfidf_ridge", "setting_mean")),
    "text": ("text", "test", "accuracy", ("linear", "tfidf_bigram", "majority")),
    "vlm": ("vlm", "fused", "accuracy", ("base", "blank", "majority")),
}

FILES = {
    "data": "Manifests and audit",
    "stage1": "Stage 1 alone, on the test role",
    "alignment": "Alignment of the folds' embeddings",
    "meta": "Bake-off on leave-base-fold-out rows of the train role",
    "cascade": "All systems on the test role",
    "counts_data": "Rows and counts by role",
    "counts": "Variants and baselines on the same test rows",
    "text_data": "Texts by role",
    "text": "The classifier, its parts and the baselines on test",
    "vlm_data": "Images and conversations by role",
    "vlm": "Both models, ablations and baselines on test",
}

BASELINES = {"majority", "median", "metadata", "pixel_statistics", "setting_mean"}
BASELINES |= {"tfidf_ridge", "tfidf_logreg", "tfidf_bigram", "blank"}
SLICES = ("family.", "unseen", "deferred.", "external.")
FIRST = ("test", "cascade", "fused")

SYSTEMS = {
    "stage1.test": "families that training saw",
    "stage1.unseen": "the family that stands in test only",
    "unlike.test": "photographs of test: false alarms",
    "unlike.drawings": "pictures that are no photographs",
    "platt": "Platt scaling in place of temperature",
    "majority": "a constant: the class shares",
    "median": "a constant",
    "metadata": "file metadata alone",
    "pixel_statistics": "statistics of the pixels",
    "cascade.cascade": "stage 1, then the ensemble where unsure",
    "cascade.stage1": "the fast filter alone",
    "refit_cascade": "stage 1, then one refit network where unsure",
    "random_deferral": "stage 1, and the ensemble on as many rows by chance",
    "learned_deferral": "stage 1, and the ensemble on as many rows by a rule learned on tune",
    "ensemble": "what the bake-off shipped, on every image",
    "mean_logit": "mean of the experts' logits",
    "logistic": "logistic regression on logits",
    "lightgbm_logits": "LightGBM on logits",
    "lightgbm": "LightGBM on embeddings",
    "single": "the better expert alone",
    "inner_split": "90/10 by group, for comparison",
    "calib.stage1": "the fast filter alone, on calib",
    "calib.ensemble": "what the bake-off shipped, alone, on calib",
    "calib.joined": "both joined, on held-out groups of calib",
    "setting_mean": "knows the setting, not the question",
    "tfidf_ridge": "word counts + ridge",
    "tfidf_logreg": "word counts + logistic regression",
    "tfidf_bigram": "character bigrams + logistic regression",
    "text.test": "the classifier that ships",
    "uncalibrated": "before its temperature",
    "network": "the network alone",
    "linear": "the linear member alone",
    "no_pretraining": "the network from random weights",
    "base": "the first model",
    "fused": "corrected on high risk by the second",
    "blank": "grey images in the place of test's",
    "no_augmentation": "without augmented copies",
    "no_filter": "with all copies, none filtered out",
    "order_1": "base in another order of the data",
    "order_2": "base in another order of the data",
}

METRICS = {
    "auc": "area under the ROC curve",
    "ap": "average precision",
    "balanced_accuracy": "mean of the recalls of both classes, at 0.5",
    "tpr_at_fpr_1": "true positive rate at a false positive rate of at most 1 %",
    "tpr_at_fpr_5": "true positive rate at a false positive rate of at most 5 %",
    "nll": "mean negative log-likelihood in nats: lower is better",
    "brier": "mean squared error of the probability: lower is better",
    "ece": "expected calibration error, 15 bins: lower is better",
    "ece_width": "expected calibration error, 15 bins of equal width: lower is better",
    "ece_smooth": "smooth calibration error, without bins: lower is better",
    "ece_classwise": "mean over the classes of their calibration errors: lower is better",
    "alarms": "share that is warned of as unlike all seen",
    "mse": "mean squared error in units: lower is better",
    "mae": "mean absolute error in units: lower is better",
    "spearman": "rank agreement",
    "quadratic_kappa": "agreement on the quantile bins, far misses weigh more",
    "within_one": "share at most one quantile bin off",
    "width_accuracy": "accuracy on the equal-width bins",
    "width_macro_f1": "macro-F1 on the equal-width bins",
    "high_error": "share wrong on high risk or not: lower is better",
    "leak": "share of a scene's images that leave on the wrong side, mean over scenes",
    "leak_upper": "its one-sided 95 % bound over scenes, on tune",
    "tune_upper": "one-sided 95 % bound over scenes that tune gave",
    "scenes_needed": "scenes that certify the budget if nothing leaks in them",
    "correlation": "of a scene's images in leaking, estimated",
    "coverage": "share of deferred images whose verdict is their class or unsure, mean over scenes",
    "fold_auc": "share of real-forged pairs of one fold in the right order",
    "fold_predictability": "accuracy of telling which fold's network made an embedding",
}

PLOTS = {
    "calibrate/reliability": "Reliability of stage 1 on the calib role, before and after temperature",
    "cascade/frontier": "Cost against balanced error on test: the cascade, what it is held against and each system alone",
    "counts/confusion": "Predicted against true bins on test, each variant",
    "prepare_counts/distribution": "Counts by role",
    "counts/predicted": "Predicted against true counts on test",
    "counts/training": "Training of every variant",
    "stage1/confusion": "Stage 1 on test at threshold 0.5",
    "stage1/examples": "Test images by family, with their probabilities",
    "stage1/mistakes": "Test images that stage 1 gets most confidently wrong",
    "stage1/reliability": "Reliability of stage 1 on test, before and after temperature",
    "stage1/robustness": "AUC of stage 1 under JPEG, resizing and blur",
    "stage1/roc": "ROC of stage 1 on test, by slice",
    "stage1/training": "Training of stage 1, epoch by epoch",
    "text/confusion": "Texts on test",
    "text/length": "Accuracy by length of the text",
    "text/reliability": "Reliability of the classifier on test",
    "text/training": "Training: loss and accuracy on val",
    "prepare_vlm/augmented": "Images and their augmented copies",
    "vlm/confusion_base": "The first model on test",
    "vlm/confusion_fused": "Corrected by the second model, on test",
    "render_corridors/contact_sheet": "Corridor scenes of every class",
    "vlm/mistakes": "Test images that are judged most confidently wrong",
    "vlm/reliability": "Reliability on test",
    "vlm/systems": "Accuracy of every system with its interval",
    "vlm/training": "Training of the models",
}
