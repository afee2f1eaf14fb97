"""Pure functions from the farm to text or rows: tables, summaries, explanations, the data of the page.

Nothing here reads a file or a clock; `pipeline.ui` shows what these functions return.
"""
