"""The paper broker: a book that fills from ticks, in this process or as a server of its own with a durable ledger."""
