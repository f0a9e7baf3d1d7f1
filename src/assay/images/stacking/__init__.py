"""Out-of-fold stacking of the experts: their order here is the order of the features in X_meta."""

EXPERTS = ("efficientnetv2_b3", "maxvit")
# Test-time modes of the ensemble: one network per expert, or the networks of every fold.
REFIT, FOLD_AVERAGE = "refit", "fold_average"
