"""The world: ledger, genome folders, shares, machines. Every call has a deadline; trouble becomes *unknown*.

Edges turn what they find into `pipeline.core.observation` and do what `dispatcher.plan` asks for; they decide nothing.
"""
