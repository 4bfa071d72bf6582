"""What the nano model can talk about: requests, numbers, replies, and conversations made of them."""
