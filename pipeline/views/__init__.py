"""Pure functions from the farm to text or rows: tables, summaries, explanations, the data of the page.

No I/O and no clock; `pipeline.ui` shows what these functions return.
"""
