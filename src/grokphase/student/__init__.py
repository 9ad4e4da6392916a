"""The student: tensor-network attention with fixed tensors, its contexts, features and scores."""

from grokphase.student.attention import Attention
from grokphase.student.examples import paper_examples
from grokphase.student.limit import ThermodynamicLimit
from grokphase.student.prefix_tree import all_inputs

__all__ = ["Attention", "ThermodynamicLimit", "all_inputs", "paper_examples"]
