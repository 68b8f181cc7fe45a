"""Stage 2: who is who, windows through heads, native frames, tables, and the transform around them."""
