"""The methods paragraph says what was done, and nothing that was not."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from harness.analysis.study_analysis import analyse_study
from harness.report.html import write_html
from harness.report.markdown import write_markdown
from harness.report.methods import methods_paragraphs
from harness.report.methods_training import ALGORITHMS, _algorithms
from harness.report.references import REFERENCES, bibtex, cited, with_citations
from harness.report.write import gather
from harness.runs.folder import StudyFolder
from optimizers import REGISTRY, AdamWSpec

Write = Callable[..., StudyFolder]


def text_of(folder: StudyFolder) -> str:
    return "\n".join(methods_paragraphs(analyse_study(folder)))


def test_a_plain_study_is_told_in_its_own_numbers(made_up_study: Write) -> None:
    text = text_of(made_up_study(analysis={"margin_nats": 0.02}))
    for said in (
        "We compared muon with the baseline adamw on a decoder-only transformer",
        "AdamW [@loshchilov2019] and Muon [@jordan2024]",
        "120 optimizer steps of 16 sequences of 128 tokens",
        "No hyperparameter was searched",
        "5 seeds",
        "as hashes prove; they are compared as pairs",
        "a paired t test [@student1908]",
        "The verdict is read from the 95 % interval of the difference.",
        "differences within 0.02 nats do not matter",
        "Versions: Python 3.11.9, PyTorch 2.13.0 and NumPy 2.4.6.",
    ):
        assert said in text
    not_done = ("Welch", "Bonferroni", "Boschloo", "looks at", "target", "z test", "DeepSpeed")
    assert not [word for word in not_done if word in text]


def test_several_variants_share_alpha_and_lost_runs_are_ranked(eventful_study: StudyFolder) -> None:
    text = text_of(eventful_study)
    assert "hold together for all 4 comparisons at 95 % (Bonferroni) [@dunn1961]" in text
    assert "Of 25 runs, 1 failed and 1 diverged; none was left out." in text
    ranks = "not every run has a final loss: the joint ranks"
    assert f"For muon-slow, {ranks}" in text
    risks = text.index("Boschloo")
    assert text.index(f"For muon-hot, {ranks}") < risks < text.index("the smaller p was doubled")
    assert text.count("Boschloo's") == 1, "where a run crashed the risks were not compared"


def test_looks_and_a_target_are_told(made_up_study: Write) -> None:
    text = text_of(made_up_study(analysis={"looks": [3, 5], "target": 3.5}))
    assert "looks at 3 and 5 seeds were declared in the plan" in text
    assert "calibrated by simulation" in text
    assert "the target of 3.5 nats, fixed in the plan, by a one-sided t test" in text
    assert {"obrien1979", "lan1983"} < set(cited(text))


def test_every_algorithm_is_named_with_its_source_and_the_mask_with_its_own() -> None:
    specs = [REGISTRY[kind].spec(lr=0.1) for kind in ALGORITHMS]
    for sentence in _algorithms(specs):
        assert set(cited(sentence)) <= set(REFERENCES)
    elementwise = [k for k, e in REGISTRY.items() if e.module.startswith("optimizers.elementwise")]
    assert {"adamw", *elementwise} <= set(ALGORITHMS)
    masked = AdamWSpec(lr=0.1, cautious=True)
    assert "Updates are masked" in " ".join(_algorithms([masked]))
    assert "Updates of some configurations are masked" in " ".join(_algorithms([*specs, masked]))
    assert "masked" not in " ".join(_algorithms(specs))


def test_a_stated_noise_is_judged_by_z_and_claims_no_pairs(made_up_study: Write) -> None:
    text = text_of(made_up_study(analysis={"sigma": 0.03}))
    assert "a z test with the standard deviation of one run, 0.03 nats, stated beforehand" in text
    assert "compared as pairs" not in text
    assert "student1908" not in cited(text)


def test_seeds_that_are_no_pairs_are_tested_by_welch(made_up_study: Write) -> None:
    text = text_of(made_up_study(analysis={"pairing": "unpaired"}))
    assert "Seeds are not paired." in text
    assert "Welch's t test [@welch1947]" in text
    assert "hashes" not in text


def test_other_lengths_and_a_margin_of_speed_are_told(made_up_study: Write) -> None:
    horizons = {"horizons": [30, 60, 240], "margin_speedup_percent": 5.0}
    text = text_of(made_up_study(analysis=horizons, every=60))
    assert "adamw was also trained over 30, 60 and 240 steps, each with its own full" in text
    assert "which a speed-up of 5 % is worth by the losses of adamw" in text


def test_the_search_is_told_with_its_budget(made_up_search: Write) -> None:
    text = text_of(made_up_search(tuning={"trials": 3, "searcher": "tpe", "steps": 60}))
    assert "by the tree-structured Parzen estimator [@bergstra2011]" in text
    assert "3 configurations and 6 training runs of each" in text
    assert "The runs of the search were 60 steps long." in text
    assert "No hyperparameter was searched" not in text
    assert "successive halving" not in text


def test_what_has_not_ended_is_not_told_as_done(made_up_study: Write) -> None:
    cells = frozenset((name, seed) for name in ("adamw", "muon") for seed in (2, 3, 4))
    text = text_of(made_up_study(unfinished=cells))
    assert "So far 4 of 10 planned runs have ended." in text
    assert "No comparison has been made yet." in text
    assert "t test" not in text


def test_nothing_is_told_before_a_run_has_ended(made_up_study: Write) -> None:
    folder = made_up_study()
    for trial in (folder.path / "trials").iterdir():
        (trial / "outcome.json").unlink()
    page = write_html(gather(analyse_study(folder), draw=lambda view: {}))
    assert ">Methods</h2>" not in page


def test_the_page_cites_what_the_text_names_and_nothing_else(eventful_study: StudyFolder) -> None:
    results = analyse_study(eventful_study)
    markdown = write_markdown(gather(results, draw=lambda view: {}))
    keys = cited("\n".join(methods_paragraphs(results)))
    assert "[@" not in markdown
    assert "(Conover and Iman, 1981; Lachin, 1999)" in markdown
    for key in REFERENCES:
        assert (f"{{{key}," in markdown) == (key in keys)


@pytest.mark.parametrize("key", REFERENCES)
def test_every_entry_is_whole(key: str) -> None:
    entry = bibtex([key])
    assert entry.startswith("@")
    assert entry.count("{") == entry.count("}")
    for field in ("author", "title", "year"):
        assert f"  {field} = {{" in entry
    year = key.strip("abcdefghijklmnopqrstuvwxyz")
    assert f"  year = {{{year}}}," in entry
    assert REFERENCES[key].short.endswith(year)


def test_two_citations_at_one_place_stand_in_one_bracket() -> None:
    text = "ranks [@conover1981, @lachin1999] and t [@student1908]."
    assert cited(text) == ["conover1981", "lachin1999", "student1908"]
    expected = "ranks (Conover and Iman, 1981; Lachin, 1999) and t (Student, 1908)."
    assert with_citations(text) == expected


@pytest.mark.parametrize(
    ("optimizer", "said"),
    [
        ({"kind": "soap"}, "SOAP [@vyas2024]"),
        ({"kind": "shampoo"}, "Shampoo [@gupta2018] with grafting [@anil2020]"),
        ({"kind": "scion"}, "Scion [@pethick2025]"),
        ({"kind": "muon", "normuon": True}, "root of its mean square over time [@li2025]"),
        ({"kind": "muon", "hyperball": True}, "keep the Frobenius norm of every matrix [@wen2025]"),
        (
            {"kind": "muon", "qk_clip": 100.0},
            "an attention logit exceeds a bound [@kimi2025]",
        ),
    ],
)
def test_optimizers_of_whole_matrices_are_named_and_cited(
    optimizer: dict[str, object], said: str
) -> None:
    spec = REGISTRY[str(optimizer["kind"])].spec.model_validate({"lr": 0.01, **optimizer})
    text = " ".join(_algorithms([spec]))
    assert said in text
    assert all(key in REFERENCES for key in cited(text))
    plain = " ".join(_algorithms([REGISTRY["muon"].spec(lr=0.01)]))
    assert "[@li2025]" not in plain
