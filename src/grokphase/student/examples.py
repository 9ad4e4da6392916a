r"""The three published attentions of bond 2 (Appendix C), the subject of Figs. 15-17 and of Table 1.

Object: ``paper_examples``, a tuple of three :class:`~grokphase.student.attention.Attention` with open
boundaries, the boundary vectors being the leading eigenvectors of A_0 (Sec. 4.3.1).  Example k is
``paper_examples[k - 1]``.

Conventions: index 0 of each tensor is the spin −1 (the embedding of Eq. 58).  The elements are parameters of
the published example, to the six digits printed; everything else follows from them exactly.

References: Žunkovič & Ilievski 2024, Appendix C (CC-BY 4.0).
"""

from grokphase.student.attention import Attention

__all__ = ["paper_examples"]

paper_examples: tuple[Attention, Attention, Attention] = (
    Attention(
        [
            [[0.782735, 0.225481], [-0.21562, 0.290028]],
            [[1.17554, -0.275503], [1.18283, -0.157563]],
        ]
    ),
    Attention(
        [
            [[1.6749, -1.29059], [0.285324, -0.708621]],
            [[0.0462428, -0.0797724], [-0.509457, 0.922777]],
        ]
    ),
    Attention(
        [
            [[1.37336, -0.465853], [-1.10382, 0.720113]],
            [[0.128517, 0.166033], [0.634426, 1.13816]],
        ]
    ),
)
