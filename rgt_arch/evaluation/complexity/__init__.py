"""What a network costs: parameters and multiply-adds by part, and their growth with the resolution."""
