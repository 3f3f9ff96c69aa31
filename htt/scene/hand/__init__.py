"""Hand model: skeleton, surface, skin and pose."""
