"""`squareoff up`: the processes that trade, watched over."""
