"""How each engine is started and supervised."""
