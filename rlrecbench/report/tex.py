"""Plain text as LaTeX that pdflatex compiles, whatever it holds."""

import re
import unicodedata

_PLAIN = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "$": r"\$",
    "&": r"\&",
    "%": r"\%",
    "#": r"\#",
    "_": r"\_",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    "`": r"\textasciigrave{}",
    "±": r"$\pm$",
    "·": r"$\cdot$",
    "\N{MULTIPLICATION SIGN}": r"$\times$",
    "°": r"$^{\circ}$",
    "†": r"\dag{}",
    "\N{EN DASH}": "--",
    "—": "---",
    "\N{MINUS SIGN}": "$-$",
    "…": r"\ldots{}",
    "↑": r"$\uparrow$",
    "↓": r"$\downarrow$",
    "→": r"$\to$",
    "≤": r"$\leq$",
    "≥": r"$\geq$",
    "≈": r"$\approx$",
    "\N{LEFT DOUBLE QUOTATION MARK}": "``",
    "\N{RIGHT DOUBLE QUOTATION MARK}": "''",
    "\N{LEFT SINGLE QUOTATION MARK}": "`",
    "\N{RIGHT SINGLE QUOTATION MARK}": "'",
    "\N{NO-BREAK SPACE}": "~",
    "\N{NARROW NO-BREAK SPACE}": "~",
}  # fmt: skip
_GREEK = re.compile(r"GREEK (SMALL|CAPITAL) LETTER (\w+)")
# As Unicode spells them; these have commands of their own.
_SMALL = (
    "alpha", "beta", "gamma", "delta", "epsilon", "zeta", "eta", "theta", "iota", "kappa", "lamda", "mu", "nu", "xi",
    "pi", "rho", "sigma", "tau", "upsilon", "phi", "chi", "psi", "omega",
)  # fmt: skip
_CAPITAL = ("gamma", "delta", "theta", "lamda", "xi", "pi", "sigma", "upsilon", "phi", "psi", "omega")
_LATIN = 0x17F  # the last letter of Latin Extended-A, which pdflatex knows with T1 fonts


def escape(text: str) -> str:
    """Write text so that it prints as it is.

    Letters that pdflatex lacks lose their accents; what is left then becomes its code point, such as [U+4E2D].
    """
    out = "".join(map(_letter, " ".join(text.split())))
    return re.sub(r"(?<=-)-", "{}-", out) if "--" in text else out  # no dash out of two hyphens


def comment(text: str) -> str:
    """Write text as one line of comment."""
    return f"% {' '.join(text.split())}"


def _letter(c: str) -> str:
    if c in _PLAIN:
        return _PLAIN[c]
    greek = _GREEK.fullmatch(unicodedata.name(c, ""))
    if greek is not None:
        case, letter = greek[1], greek[2].lower()
        if letter in (_SMALL if case == "SMALL" else _CAPITAL):
            letter = letter.replace("lamda", "lambda")
            return rf"$\{letter if case == 'SMALL' else letter.capitalize()}$"
    if c.isprintable() and (c.isascii() or (c.isalpha() and ord(c) <= _LATIN)):
        return c
    simple = "".join(p for p in unicodedata.normalize("NFKD", c) if p.isascii() and p.isprintable())
    return "".join(_PLAIN.get(p, p) for p in simple) or f"[U+{ord(c):04X}]"
