"""What stages hand back, as typed records: one module a kind of stage, and what they share."""
