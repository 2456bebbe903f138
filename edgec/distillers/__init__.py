"""One kind of knowledge per file: what a teacher hands on to a student.

Each file holds all of one distiller: the term that recipes write, what it needs, its distance, and its row of the table.
Recipes are read without torch, so these files import torch inside functions, and modules that train stand in files of
their own (`connector`).
"""
