"""A package that brings edgec one task, one data format, one stage, one distiller and one runtime."""
