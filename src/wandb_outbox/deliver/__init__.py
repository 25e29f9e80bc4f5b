"""Delivery: from a claimed row to a receipt that the server confirmed."""
