"""What to cite: every published source, method, dataset, metric and model has a BibTeX entry."""

import re
import shutil
import subprocess

import pytest

from irbench.catalog import citations, peers, published
from irbench.core import metrics
from irbench.data import sets
from irbench.models import registry

ENTRIES = citations.load()["entries"]
USES = citations.load()["uses"]


def test_each_source_method_dataset_metric_and_model_has_its_entry():
    figures = published.load()
    assert set(USES) == set(citations.GROUPS)
    assert set(USES["methods"]) == {figure.method.removesuffix("*") for figure in figures}
    assert set(USES["sources"]) == {figure.source for figure in figures} == set(published.SOURCES)
    assert set(USES["datasets"]) == set(sets.catalog())
    assert set(USES["metrics"]) == {*metrics.BUILT_IN, "pyiqa:"}
    assert set(USES["models"]) == {*peers.catalog(), *registry.cards(())}


def test_each_entry_is_used_and_each_use_has_its_entry():
    used = {key for group in USES for name in USES[group] for key in citations.keys(group, name)}
    assert used == set(ENTRIES)


def test_nothing_to_cite_is_said_and_not_forgotten():
    empty = {(group, name) for group in USES for name in USES[group]
             if not citations.keys(group, name)}
    assert empty == {("methods", "input"), ("models", "input"), ("metrics", "psnr")}


@pytest.mark.parametrize("key", sorted(ENTRIES))
def test_an_entry_has_its_fields_and_can_be_parsed(key):
    fields = dict(ENTRIES[key])
    kind = fields.pop("type")
    assert set(citations.KINDS[kind]) <= set(fields)
    assert set(fields) <= {*citations.KINDS[kind], "eprint", "archiveprefix"}
    first = re.sub(r"[^a-z]", "", fields["author"].split(",")[0].split()[-1].lower())
    assert re.fullmatch(r"[a-z]+(19|20)\d\d[a-z0-9]+", key) and key.startswith(first[:4])
    assert type(fields["year"]) is int and str(fields["year"]) in key
    for author in fields["author"].split(" and "):
        assert re.fullmatch(r"\{.+\}|[^,]+, [^,]+", author), author     # FAMILY, GIVEN
    for value in map(str, fields.values()):
        assert value.isascii() and "\n" not in value and not re.search(r"(?<!\\)[&%#$_~^]", value)
        depth = [value[:end].count("{") - value[:end].count("}") for end in range(len(value) + 1)]
        assert depth[-1] == 0 and min(depth) == 0, value


def test_the_printed_form_is_bibtex():
    assert citations.bibtex(["hui2019imdn", "dong2016srcnn", "hui2019imdn"]) == (
        "@article{dong2016srcnn,\n"
        "  author = {Dong, Chao and Loy, Chen Change and He, Kaiming and Tang, Xiaoou},\n"
        "  title = {Image Super-Resolution Using Deep Convolutional Networks},\n"
        "  journal = {IEEE Transactions on Pattern Analysis and Machine Intelligence},\n"
        "  year = {2016},\n}\n\n"
        "@inproceedings{hui2019imdn,\n"
        "  author = {Hui, Zheng and Gao, Xinbo and Yang, Yunchu and Wang, Xiumei},\n"
        "  title = {Lightweight Image Super-Resolution with Information Multi-distillation "
        "Network},\n"
        "  booktitle = {ACM International Conference on Multimedia},\n"
        "  year = {2019},\n}\n")


def test_an_entry_on_arxiv_alone_says_so_in_every_style():
    """Styles as plain know no eprint; a paper that has appeared elsewhere names that place."""
    assert citations.bibtex(["li2021edt"]).endswith(
        "  eprint = {2112.10175},\n  archiveprefix = {arXiv},\n  year = {2021},\n"
        "  howpublished = {arXiv:2112.10175},\n}\n")
    lacking = [key for key, fields in ENTRIES.items() if "eprint" in fields
               and not set(citations.PLACES) & set(fields)]
    assert len(lacking) > 3
    assert citations.bibtex(ENTRIES).count("howpublished = {arXiv:") == len(lacking)
    assert all("howpublished" not in fields for fields in ENTRIES.values())     # load() is shared


@pytest.mark.parametrize(("group", "name", "found"), [
    ("methods", "DnCNN*", ("zhang2017dncnn",)), ("methods", "mine", None),
    ("metrics", "pyiqa:vsi", ("chen2022pyiqa",)), ("metrics", "mine", None),
    ("sources", "SMFANet repo figs (tables 1 and 2)", ("zheng2024smfanet", "hui2019imdn"))])
def test_names_find_their_keys(group, name, found):
    assert citations.keys(group, name) == found


@pytest.mark.skipif(not shutil.which("bibtex"), reason="BibTeX is not installed")
def test_bibtex_reads_all_entries(tmp_path):
    (tmp_path / "refs.bib").write_text(citations.bibtex(ENTRIES))
    (tmp_path / "paper.aux").write_text("\\citation{*}\n\\bibstyle{plain}\n\\bibdata{refs}\n")
    done = subprocess.run(["bibtex", "paper"], cwd=tmp_path, capture_output=True, text=True,
                          timeout=60, check=False)
    assert done.returncode == 0 and "Warning" not in done.stdout, done.stdout
    printed = (tmp_path / "paper.bbl").read_text()
    assert printed.count("\\bibitem") == len(ENTRIES) and "arXiv:2112.10175, 2021" in printed
