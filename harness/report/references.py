"""Sources of the methods that a study may use, to be cited in its methods paragraph."""

from __future__ import annotations

import re
from dataclasses import dataclass

_CITATION = re.compile(r" ?\[@([\w, @]+)\]")


@dataclass(frozen=True, kw_only=True)
class Reference:
    """`short` stands in the text; `fields` make the BibTeX entry."""

    short: str
    kind: str
    fields: tuple[tuple[str, str], ...]

    def bibtex(self, key: str) -> str:
        lines = [f"  {name} = {{{value}}}," for name, value in self.fields]
        return "\n".join([f"@{self.kind}{{{key},", *lines, "}"])


def cited(text: str) -> list[str]:
    """The keys in a text of ` [@key]` and ` [@one, @other]`, each once, in their order."""
    keys = [key for found in _CITATION.findall(text) for key in found.replace("@", "").split(", ")]
    return list(dict.fromkeys(keys))


def with_citations(text: str) -> str:
    """The text with ` (Dunn, 1961)` in the place of ` [@dunn1961]`."""

    def named(found: re.Match[str]) -> str:
        return f" ({'; '.join(REFERENCES[key].short for key in cited(found.group()))})"

    return _CITATION.sub(named, text)


def bibtex(keys: list[str]) -> str:
    """The entries of these keys, in alphabetical order."""
    return "\n\n".join(REFERENCES[key].bibtex(key) for key in sorted(keys)) + "\n"


def _article(
    short: str, author: str, title: str, journal: str, volume: str, **more: str
) -> Reference:
    return _entry("article", short, author, title, journal=journal, volume=volume, **more)


def _talk(short: str, author: str, title: str, booktitle: str, **more: str) -> Reference:
    return _entry("inproceedings", short, author, title, booktitle=booktitle, **more)


def _preprint(short: str, author: str, title: str, arxiv: str) -> Reference:
    return _entry("misc", short, author, title, eprint=arxiv, archiveprefix="arXiv")


def _entry(kind: str, short: str, author: str, title: str, **more: str) -> Reference:
    fields = {"author": author, "title": title, **more, "year": short.rsplit(" ", 1)[1]}
    return Reference(short=short, kind=kind, fields=tuple(fields.items()))


REFERENCES: dict[str, Reference] = {
    # Suites
    "dolan2002": _article(
        "Dolan and Moré, 2002",
        "Dolan, Elizabeth D. and Mor{\\'e}, Jorge J.",
        "Benchmarking Optimization Software with Performance Profiles",
        "Mathematical Programming",
        "91",
        number="2",
        pages="201--213",
    ),
    "demsar2006": _article(
        "Demšar, 2006",
        "Dem{\\v{s}}ar, Janez",
        "Statistical Comparisons of Classifiers over Multiple Data Sets",
        "Journal of Machine Learning Research",
        "7",
        pages="1--30",
    ),
    "agarwal2021": _talk(
        "Agarwal et al., 2021",
        "Agarwal, Rishabh and Schwarzer, Max and Castro, Pablo Samuel and Courville, Aaron C. and "
        "Bellemare, Marc G.",
        "Deep Reinforcement Learning at the Edge of the Statistical Precipice",
        "Advances in Neural Information Processing Systems",
        volume="34",
    ),
    "dahl2023": _preprint(
        "Dahl et al., 2023",
        "Dahl, George E. and others",
        "Benchmarking Neural Network Training Algorithms",
        "2306.07179",
    ),
    "hesterberg2015": _article(
        "Hesterberg, 2015",
        "Hesterberg, Tim C.",
        "What Teachers Should Know About the Bootstrap: Resampling in the Undergraduate "
        "Statistics Curriculum",
        "The American Statistician",
        "69",
        number="4",
        pages="371--386",
    ),
    # Statistics
    "student1908": _article(
        "Student, 1908",
        "Student",
        "The Probable Error of a Mean",
        "Biometrika",
        "6",
        number="1",
        pages="1--25",
    ),
    "welch1947": _article(
        "Welch, 1947",
        "Welch, B. L.",
        "The Generalization of `{Student}'s' Problem when Several Different Population Variances "
        "are Involved",
        "Biometrika",
        "34",
        number="1--2",
        pages="28--35",
    ),
    "dunn1961": _article(
        "Dunn, 1961",
        "Dunn, Olive Jean",
        "Multiple Comparisons Among Means",
        "Journal of the American Statistical Association",
        "56",
        number="293",
        pages="52--64",
    ),
    "schuirmann1987": _article(
        "Schuirmann, 1987",
        "Schuirmann, Donald J.",
        "A Comparison of the Two One-Sided Tests Procedure and the Power Approach for Assessing "
        "the Equivalence of Average Bioavailability",
        "Journal of Pharmacokinetics and Biopharmaceutics",
        "15",
        number="6",
        pages="657--680",
    ),
    "lan1983": _article(
        "Lan and DeMets, 1983",
        "Lan, K. K. Gordon and DeMets, David L.",
        "Discrete Sequential Boundaries for Clinical Trials",
        "Biometrika",
        "70",
        number="3",
        pages="659--663",
    ),
    "obrien1979": _article(
        "O'Brien and Fleming, 1979",
        "O'Brien, Peter C. and Fleming, Thomas R.",
        "A Multiple Testing Procedure for Clinical Trials",
        "Biometrics",
        "35",
        number="3",
        pages="549--556",
    ),
    "conover1981": _article(
        "Conover and Iman, 1981",
        "Conover, W. J. and Iman, Ronald L.",
        "Rank Transformations as a Bridge Between Parametric and Nonparametric Statistics",
        "The American Statistician",
        "35",
        number="3",
        pages="124--129",
    ),
    "lachin1999": _article(
        "Lachin, 1999",
        "Lachin, John M.",
        "Worst-Rank Score Analysis with Informatively Missing Observations in Clinical Trials",
        "Controlled Clinical Trials",
        "20",
        number="5",
        pages="408--422",
    ),
    "boschloo1970": _article(
        "Boschloo, 1970",
        "Boschloo, R. D.",
        "Raised Conditional Level of Significance for the 2 x 2-Table when Testing the Equality "
        "of Two Probabilities",
        "Statistica Neerlandica",
        "24",
        number="1",
    ),
    "virtanen2020": _article(
        "Virtanen et al., 2020",
        "Virtanen, Pauli and others",
        "{SciPy} 1.0: Fundamental Algorithms for Scientific Computing in {Python}",
        "Nature Methods",
        "17",
        pages="261--272",
    ),
    # Optimizers
    "loshchilov2019": _talk(
        "Loshchilov and Hutter, 2019",
        "Loshchilov, Ilya and Hutter, Frank",
        "Decoupled Weight Decay Regularization",
        "International Conference on Learning Representations",
    ),
    "jordan2024": _entry(
        "misc",
        "Jordan et al., 2024",
        "Jordan, Keller and Jin, Yuchen and Boza, Vlado and You, Jiacheng and Cesista, Franz and "
        "Newhouse, Laker and Bernstein, Jeremy",
        "Muon: An Optimizer for Hidden Layers in Neural Networks",
        url="https://kellerjordan.github.io/posts/muon/",
    ),
    "vyas2024": _preprint(
        "Vyas et al., 2024",
        "Vyas, Nikhil and others",
        "{SOAP}: Improving and Stabilizing {Shampoo} using {Adam}",
        "2409.11321",
    ),
    "gupta2018": _talk(
        "Gupta et al., 2018",
        "Gupta, Vineet and Koren, Tomer and Singer, Yoram",
        "Shampoo: Preconditioned Stochastic Tensor Optimization",
        "International Conference on Machine Learning",
    ),
    "anil2020": _preprint(
        "Anil et al., 2020",
        "Anil, Rohan and others",
        "Scalable Second Order Optimization for Deep Learning",
        "2002.09018",
    ),
    "pethick2025": _preprint(
        "Pethick et al., 2025",
        "Pethick, Thomas and others",
        "Training Deep Learning Models with Norm-Constrained {LMOs}",
        "2502.07529",
    ),
    "li2025": _preprint(
        "Li et al., 2025",
        "Li, Zichong and others",
        "{NorMuon}: Making {Muon} more efficient and scalable",
        "2510.05491",
    ),
    "wen2025": _entry(
        "misc",
        "Wen et al., 2025",
        "Wen, Kaiyue and Dang, Xingyu and Lyu, Kaifeng and Ma, Tengyu and Liang, Percy",
        "Fantastic Pretraining Optimizers and Where to Find Them 2.1: Hyperball Optimization",
        url="https://tinyurl.com/muonh",
    ),
    "kimi2025": _preprint(
        "Kimi Team, 2025", "{Kimi Team}", "{Kimi K2}: Open Agentic Intelligence", "2507.20534"
    ),
    "liu2025": _preprint(
        "Liu et al., 2025",
        "Liu, Jingyuan and others",
        "{Muon} is Scalable for {LLM} Training",
        "2502.16982",
    ),
    "defazio2024": _talk(
        "Defazio et al., 2024",
        "Defazio, Aaron and Yang, Xingyu and Mehta, Harsh and Mishchenko, Konstantin and Khaled, "
        "Ahmed and Cutkosky, Ashok",
        "The Road Less Scheduled",
        "Advances in Neural Information Processing Systems",
        volume="37",
    ),
    "chen2023": _preprint(
        "Chen et al., 2023",
        "Chen, Xiangning and others",
        "Symbolic Discovery of Optimization Algorithms",
        "2302.06675",
    ),
    "bernstein2018": _preprint(
        "Bernstein et al., 2018",
        "Bernstein, Jeremy and Wang, Yu-Xiang and Azizzadenesheli, Kamyar and Anandkumar, Anima",
        "{signSGD}: Compressed Optimisation for Non-Convex Problems",
        "1802.04434",
    ),
    "dozat2016": _talk(
        "Dozat, 2016",
        "Dozat, Timothy",
        "Incorporating {Nesterov} Momentum into {Adam}",
        "International Conference on Learning Representations, Workshop",
    ),
    "taniguchi2024": _preprint(
        "Taniguchi et al., 2024",
        "Taniguchi, Shohei and others",
        "{ADOPT}: Modified {Adam} Can Converge with Any $\\beta_2$ with the Optimal Rate",
        "2411.02853",
    ),
    "pagliardini2024": _preprint(
        "Pagliardini et al., 2024",
        "Pagliardini, Matteo and Ablin, Pierre and Grangier, David",
        "The {AdEMAMix} Optimizer: Better, Faster, Older",
        "2409.03137",
    ),
    "yuan2024": _preprint(
        "Yuan et al., 2024",
        "Yuan, Huizhuo and Liu, Yifeng and Wu, Shuang and Zhou, Xun and Gu, Quanquan",
        "{MARS}: Unleashing the Power of Variance Reduction for Training Large Models",
        "2411.10438",
    ),
    "liang2024": _preprint(
        "Liang et al., 2024",
        "Liang, Kaizhao and Chen, Lizhang and Liu, Bo and Liu, Qiang",
        "Cautious Optimizers: Improving Training with One Line of Code",
        "2411.16085",
    ),
    # The model
    "vaswani2017": _talk(
        "Vaswani et al., 2017",
        "Vaswani, Ashish and others",
        "Attention Is All You Need",
        "Advances in Neural Information Processing Systems",
        volume="30",
    ),
    "shazeer2017": _talk(
        "Shazeer et al., 2017",
        "Shazeer, Noam and others",
        "Outrageously Large Neural Networks: The Sparsely-Gated Mixture-of-Experts Layer",
        "International Conference on Learning Representations",
    ),
    "fedus2022": _article(
        "Fedus et al., 2022",
        "Fedus, William and Zoph, Barret and Shazeer, Noam",
        "Switch Transformers: Scaling to Trillion Parameter Models with Simple and Efficient "
        "Sparsity",
        "Journal of Machine Learning Research",
        "23",
        number="120",
        pages="1--39",
    ),
    "zoph2022": _preprint(
        "Zoph et al., 2022",
        "Zoph, Barret and others",
        "{ST-MoE}: Designing Stable and Transferable Sparse Expert Models",
        "2202.08906",
    ),
    # The search
    "bergstra2012": _article(
        "Bergstra and Bengio, 2012",
        "Bergstra, James and Bengio, Yoshua",
        "Random Search for Hyper-Parameter Optimization",
        "Journal of Machine Learning Research",
        "13",
        pages="281--305",
    ),
    "sobol1967": _article(
        "Sobol', 1967",
        "Sobol', I. M.",
        "On the Distribution of Points in a Cube and the Approximate Evaluation of Integrals",
        "USSR Computational Mathematics and Mathematical Physics",
        "7",
        number="4",
        pages="86--112",
    ),
    "bergstra2011": _talk(
        "Bergstra et al., 2011",
        "Bergstra, James and Bardenet, R{\\'e}mi and Bengio, Yoshua and K{\\'e}gl, Bal{\\'a}zs",
        "Algorithms for Hyper-Parameter Optimization",
        "Advances in Neural Information Processing Systems",
        volume="24",
        pages="2546--2554",
    ),
    "watanabe2023ped": _talk(
        "Watanabe et al., 2023",
        "Watanabe, Shuhei and Bansal, Archit and Hutter, Frank",
        "{PED-ANOVA}: Efficiently Quantifying Hyperparameter Importance in Arbitrary Subspaces",
        "Proceedings of the International Joint Conference on Artificial Intelligence",
        eprint="2304.10255",
        archiveprefix="arXiv",
    ),
    "li2020asha": _talk(
        "L. Li et al., 2020",
        "Li, Liam and others",
        "A System for Massively Parallel Hyperparameter Tuning",
        "Proceedings of Machine Learning and Systems",
        volume="2",
    ),
    # Backends
    "li2020ddp": _article(
        "S. Li et al., 2020",
        "Li, Shen and others",
        "{PyTorch} Distributed: Experiences on Accelerating Data Parallel Training",
        "Proceedings of the VLDB Endowment",
        "13",
        number="12",
        pages="3005--3018",
    ),
    "rasley2020": _talk(
        "Rasley et al., 2020",
        "Rasley, Jeff and Rajbhandari, Samyam and Ruwase, Olatunji and He, Yuxiong",
        "{DeepSpeed}: System Optimizations Enable Training Deep Learning Models with Over 100 "
        "Billion Parameters",
        "ACM SIGKDD International Conference on Knowledge Discovery and Data Mining",
    ),
    "rajbhandari2020": _talk(
        "Rajbhandari et al., 2020",
        "Rajbhandari, Samyam and Rasley, Jeff and Ruwase, Olatunji and He, Yuxiong",
        "{ZeRO}: Memory Optimizations Toward Training Trillion Parameter Models",
        "International Conference for High Performance Computing, Networking, Storage and Analysis",
    ),
    "zhao2023": _article(
        "Zhao et al., 2023",
        "Zhao, Yanli and others",
        "{PyTorch} {FSDP}: Experiences on Scaling Fully Sharded Data Parallel",
        "Proceedings of the VLDB Endowment",
        "16",
        number="12",
        pages="3848--3860",
    ),
}
"""By the key that a text cites."""
