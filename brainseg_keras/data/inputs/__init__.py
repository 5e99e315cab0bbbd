"""What a network eats: slices as it sees them, truth as its loss does, and how both are augmented."""
