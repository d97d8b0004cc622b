"""Strategies are asked, and what they want is done."""
