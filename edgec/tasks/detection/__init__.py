"""Object detection with YOLO heads."""
