"""Local teachers: cellular automata of any reach."""

from grokphase.rules.cellular_automaton import CellularAutomaton

__all__ = ["CellularAutomaton"]
