"""What stages hand back, as typed records: one module per kind of stage, and what they share."""
