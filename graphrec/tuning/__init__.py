"""Search for the hyper-parameters of a model, by the validation split alone."""
