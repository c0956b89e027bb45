"""Factories, twins and child processes that tests share."""
