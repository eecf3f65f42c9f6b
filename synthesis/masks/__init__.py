"""Renders face masks on photographs, with exact binary masks (section 4.1 of the occlusion paper)."""
