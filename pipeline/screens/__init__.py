"""What people look at, made from facts alone: tables, summaries, the live terminal."""
