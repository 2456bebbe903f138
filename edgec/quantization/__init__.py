"""Post-training quantization: calibration, sensitivity and the int8 QDQ graph."""
