"""What is wrong with a data set, found before it trains a network."""
