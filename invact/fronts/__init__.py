"""Fronts as data: the configurations that no other one beats at equal or lower cost, with uncertainty."""
