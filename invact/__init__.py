"""Can a network do with fewer filters, at equal accuracy, when its activation keeps both signs?"""

__version__ = "0.1.0"
