"""How footage comes in: uploads, folders, and the one intake behind them."""
