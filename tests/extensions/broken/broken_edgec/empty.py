WRONG = "no row"
