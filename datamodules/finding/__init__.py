"""Finds the faces of photographs, bare and masked, at any size: libfacedetection, YuNet or dlib's network."""
