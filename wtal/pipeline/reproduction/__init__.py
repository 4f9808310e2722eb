"""Every method of a dataset on features that a person has, beside the papers' rows; and what that will take."""
