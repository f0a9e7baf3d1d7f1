"""Out-of-fold stacking of the experts: their order here is the order of the features in X_meta."""

EXPERTS = ("efficientnetv2_b3", "maxvit")
