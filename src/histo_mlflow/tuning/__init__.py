"""Studies: searching a recipe's fields, by many processes, through kills, believed at the end."""
