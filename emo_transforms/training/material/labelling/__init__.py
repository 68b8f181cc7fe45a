"""Real faces with labels nobody gave: a teacher looks at pictures and says what their faces do."""
