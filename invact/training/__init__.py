"""Training: from one configuration, one seed and a data set to one result."""
