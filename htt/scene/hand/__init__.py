"""The hand: skeleton, surface, skin and pose."""
