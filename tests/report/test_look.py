"""Pages of models: what they show are the model's own numbers."""

from __future__ import annotations

import base64
import re
import zlib
from time import perf_counter
from types import SimpleNamespace

import numpy as np
import pytest
import torch

import everyformer as ef
from everyformer.boxes import corners
from everyformer.context import Context
from everyformer.costs import parameters
from everyformer.designs import Design
from everyformer.errors import BadInput, UnknownName
from everyformer.interpret.attribution import token_sums
from everyformer.report.inside import gather
from everyformer.report.look import TABS
from everyformer.report.packing import coarser, deflated, pooled, shrunk, signed, stepped
from everyformer.report.samples import sample_of
from support.browser import at, drawn, opening, tab
from support.parts import close
from support.rooms import example
from support.systems import model_of, tiny
from support.tiny_data import TINY

LETTERS = [chr(97 + i) for i in range(20)]
IDS = torch.randint(0, 20, (1, 14), generator=torch.Generator().manual_seed(3))


def unpacked(data: str) -> np.ndarray:
    raw = np.frombuffer(zlib.decompress(base64.b64decode(data)), np.uint8).astype(np.uint16)
    return raw[: len(raw) // 2] | raw[len(raw) // 2 :] << 8


def page_of(name: str, **options):
    model = model_of(tiny(name))
    batch = example(model, 1)
    return model, batch, ef.look(model, batch["inputs"], **{k: v for k, v in batch.items() if k != "inputs"}, **options)


@pytest.mark.parametrize("name", ["gpt", "vit", "transformer", "ast"])
def test_a_page_holds_the_models_own_weights(name):
    model, batch, page = page_of(name)
    with ef.interpret.record(model, "**.weights") as seen:
        model(**batch)
    view = page.data["views"]["attention"]
    assert [each["path"] + ".weights" for each in view["maps"]] == [*seen]
    for each in view["maps"]:
        held = torch.from_numpy(unpacked(each["data"]).astype(np.float32)) * view["step"]
        assert (held.view(each["shape"]) - seen[each["path"] + ".weights"]).abs().max() < 1e-4


def test_looking_changes_nothing():
    model = model_of(tiny("gpt"))
    before = model(IDS)
    ef.look(model, IDS)
    assert torch.equal(model(IDS), before)
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


def test_many_tokens_share_cells_and_rows_still_sum_to_one():
    weights = torch.rand(1, 2, 7, 7).softmax(-1)
    small = pooled(weights, 3)
    close(small.sum(-1), torch.ones(1, 2, 3))
    close(small[0, 1, 0, 1], weights[0, 1, :3, 3:6].sum(-1).mean())
    close(small[0, 1, 2, 2], weights[0, 1, 6, 6])


def test_packed_numbers_come_back():
    values = torch.randn(5, 6) * 3
    packed = signed(values)
    held = (unpacked(packed["data"]).astype(np.float32) - 32768) / 32767 * packed["largest"]
    assert np.abs(held.reshape(5, 6) - values.numpy()).max() <= packed["largest"] / 65000
    steps = np.array([0, 3, 8, 16384], np.uint16)
    assert coarser(steps, 3).tolist() == [0, 0, 1, 2048]
    assert unpacked(deflated(steps)).tolist() == steps.tolist()


def test_numbers_get_coarser_until_they_fit():
    weights = [torch.rand(2, 64, 64).pow(4) for _ in range(3)]
    fine, tight = stepped(weights, 10**6), stepped(weights, 20_000)
    assert fine["step"] == 2**-14
    assert sum(len(each["data"]) for each in tight["maps"]) < 22_000
    for packed in (fine, tight):
        held = torch.from_numpy(unpacked(packed["maps"][2]["data"]).astype(np.float32)) * packed["step"]
        assert (held.view(2, 64, 64) - weights[2]).abs().max() <= packed["step"] / 2 + 2**-15


def test_a_large_picture_is_shown_smaller():
    picture = torch.arange(8.0).view(1, 2, 4).repeat_interleave(3, 1).repeat_interleave(3, 2)
    close(shrunk(picture, 4)[0, :, :], torch.nn.functional.adaptive_avg_pool2d(picture, 4)[0])
    assert shrunk(picture, 12) is picture


def test_what_cannot_be_shown_is_said():
    model = model_of(tiny("gpt"))
    with pytest.raises(BadInput, match="no attention in layers \\[7\\]; there is some in \\[0, 1\\]"):
        ef.look(model, IDS, layers=[7])
    with pytest.raises(BadInput, match="no view 'tokens': none are dropped or merged.*what can be shown: heads, model"):
        ef.look(model, IDS, view="tokens")
    with pytest.raises(UnknownName, match="did you mean 'neurons'"):
        ef.look(model, IDS, view="neuron")
    with pytest.raises(BadInput, match="one sample; given 2"):
        ef.look(model, IDS.repeat(2, 1))
    page = ef.look(model, IDS, layers=[1], view="lens")
    assert [each["path"] for each in page.data["views"]["attention"]["maps"]] == ["backbone.blocks.1.mixer"]


@pytest.mark.parametrize(
    ("task", "names"),
    [
        ("segmentation", ["0", "1"]), ("depth", ["the mean distance"]), ("anomaly-detection", ["the mean score"]),
        ("object-discovery", ["part 0", "part 1", "part 2"]),
    ],
)  # fmt: skip
def test_a_map_is_looked_at_by_its_mean(task, names, tmp_path):
    made = TINY[task](tmp_path)
    run = SimpleNamespace(task=made.task, model=made.model, design=Design(made.model.spec))
    data = gather(sample_of(run, str(made.raw[0])))
    said = made.model(**made.task.prepare(made.raw[:1])).mean((2, 3))[0]
    assert data["views"]["attribution"]["for"] == names[int(said.argmax())]
    assert {name for name, _ in data["answer"] or []} == (set(names) if len(names) > 1 else set())


def test_a_notebook_shows_the_page():
    model = model_of(tiny("gpt"))
    shown = ef.look(model, IDS)._repr_html_()
    assert shown.startswith("<iframe srcdoc=")
    assert "<script" not in shown


def test_the_page_asks_for_nothing_from_outside():
    text = ef.look(model_of(tiny("gpt")), IDS).html()
    assert not re.search(r"""(src|href)=["']?(https?:)?//|@import|url\(|fetch\(""", text)


def test_words_cannot_break_out_of_the_page(tmp_path):
    words = ["</script><b>", "\n", " ", *LETTERS[:11]]
    text = ef.look(model_of(tiny("gpt")), IDS, words=words).html()
    assert "</script><b>" not in text


@pytest.fixture(scope="module")
def browse():
    with opening() as opened:
        yield opened


def number(text: str) -> float:
    return float(re.search(r"\d\.\d+", text).group())


def test_the_browser_shows_the_tensors_of_text(browse, tmp_path):
    model = model_of(tiny("gpt"))
    page = browse(ef.look(model, IDS, words=LETTERS[:14], answers=LETTERS).save(tmp_path / "look.html"))
    with ef.interpret.record(model, "**.weights", "backbone.blocks.0.mixer.scores") as seen, torch.no_grad():
        logits = model(IDS)
    weights = seen["backbone.blocks.0.mixer.weights"][0]
    row = weights.mean(0)[5]
    best = int(row.argmax())

    page.focus("#drawing")
    for _ in range(6):
        page.keyboard.press("ArrowDown")
    shown = page.inner_text("#readout")
    assert shown.startswith(f"from f to {LETTERS[best]}: ")
    assert number(shown) == pytest.approx(float(row[best]), abs=1e-4)

    page.dblclick("#heads button:nth-child(3)")
    drawn(page)
    page.select_option("label:has-text('as') select", "1")
    page.wait_for_selector("#drawing[style*=pixelated]")
    at(page, "#drawing", 1.5 / 14, 3.5 / 14)
    shown = page.inner_text("#readout")
    assert shown.startswith("from d to b: ")
    assert number(shown) == pytest.approx(float(weights[2, 3, 1]), abs=1e-4)
    page.select_option("label:has-text('attention') select", "1")
    drawn(page)
    at(page, "#drawing", 2.5 / 14, 6.5 / 14)
    other = seen["backbone.blocks.1.mixer.weights"][0, 2, 6, 2]
    assert number(page.inner_text("#readout")) == pytest.approx(float(other), abs=1e-4)

    tab(page, "lens")
    read = "rows => rows.map(r => [...r.cells].map(c => [c.textContent, Number(c.dataset.share)]))"
    layers = page.eval_on_selector_all("#layers tr", read)
    said = ef.interpret.logit_lens(model, inputs=IDS)
    for line, logits_there in zip(reversed(layers[1:]), said.values(), strict=True):
        share, which = logits_there[0].softmax(-1).max(-1)
        assert [cell[0] for cell in line[1:]] == [LETTERS[i] for i in which]
        close(torch.tensor([cell[1] for cell in line[1:]]), share, 1e-4)

    tab(page, "attribution")
    page.select_option("label:has-text('method') select", "1")
    drawn(page)
    answer = int(logits[0, -1].argmax())
    (values,) = ef.interpret.attribute(
        model, {"inputs": IDS}, lambda x: x[:, -1].log_softmax(-1)[:, answer], ef.interpret.InputXGradient()
    )
    page.hover("#words span:nth-child(4)")
    assert float(page.inner_text("#value")) == pytest.approx(float(token_sums(values)[3]), rel=2e-3)
    words = page.eval_on_selector_all("#words span", "all => all.map(s => Number(s.dataset.value))")
    close(torch.tensor(words), token_sums(values), 1e-4)

    tab(page, "neurons")
    page.select_option("label:has-text('query') select", "5")
    drawn(page)
    page.select_option("label:has-text('attention') select", "0")
    drawn(page)
    dots = [float(each) for each in page.locator(".dot").all_inner_texts()]
    close(torch.tensor(dots), seen["backbone.blocks.0.mixer.scores"][0, 0, 5], 1e-3)

    tab(page, "parts")
    tree = page.inner_text("#tree")
    assert "Attention" in tree
    assert f"{parameters(model) / 1000:.1f} k" in tree

    tab(page, "model")
    page.locator("#thumbnails canvas").nth(6).click()
    drawn(page, "heads")
    assert page.input_value("label:has-text('attention') select") == "1"
    pressed = page.eval_on_selector_all("#heads button", "all => all.map(b => b.getAttribute('aria-pressed'))")
    assert pressed == ["false", "false", "true", "false"]
    page.focus("#tab-heads")
    page.keyboard.press("ArrowRight")
    drawn(page, "model")
    assert page.inner_text("#answer").startswith(f"says {LETTERS[answer]} ")


@pytest.mark.parametrize("name", ["vit", "ast", "itransformer", "transformer", "bert", "detr", "kmax-deeplab"])
def test_every_view_of_every_kind_opens_on_a_phone_in_the_dark(browse, name, tmp_path):
    _, _, made = page_of(name)
    page = browse(made.save(tmp_path / "look.html"), width=390, dark=True)
    tabs = [each.removeprefix("tab-") for each in page.eval_on_selector_all("[role=tab]", "all => all.map(t => t.id)")]
    assert set(tabs) == {tab for tab, needs in TABS.items() if needs in made.data["views"]}
    for each in tabs:
        tab(page, each)
        assert page.inner_text("#view") or page.locator("#view canvas").count()
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), each
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(21, 21, 26)"


def test_where_a_patch_looks_is_read_on_the_picture(browse, tmp_path):
    model, batch, made = page_of("vit")
    page = browse(made.save(tmp_path / "look.html"))
    with ef.interpret.record(model, "backbone.blocks.0.mixer.weights") as seen, torch.no_grad():
        model(**batch)
    at(page, "#drawing", 0.6, 0.1)
    page.mouse.down()
    page.mouse.up()
    at(page, "#looked", 0.1, 0.9)
    shown = page.inner_text("#readout")
    assert shown.startswith("from 0,2 to 3,0: ")
    weight = seen["backbone.blocks.0.mixer.weights"][0, :, 1 + 2, 1 + 12].mean()
    assert number(shown) == pytest.approx(float(weight), abs=1e-4)


def test_what_queries_say_and_where_they_look_is_read_on_the_picture(browse, tmp_path):
    model, batch, made = page_of("mask2former")
    notes = {}
    with ef.interpret.record(model, "head.blocks.*.cross.0.weights") as seen, torch.no_grad():
        model(**batch, context=Context(notes=notes))
    chances = notes["classes"][:, 0].softmax(-1)
    order = chances[-1, :, :-1].amax(-1).argsort(descending=True)
    page = browse(made.save(tmp_path / "look.html"))
    tab(page, "queries")
    page.focus("#asked")
    page.keyboard.press("ArrowDown")
    second = order[1]
    assert page.inner_text("#asked [aria-selected=true]").split()[0] == str(int(second))
    assert number(page.inner_text("#readout").split(":")[1]) == pytest.approx(
        float(chances[-1, second].max()), abs=1e-4
    )
    at(page, "#told", 0.9, 0.1)
    corner = notes["masks"][-1, 0, second].sigmoid()[0, -1]
    assert float(page.inner_text("#odds")) == pytest.approx(float(corner), abs=2e-3)
    page.select_option("label:has-text('said') select", "1")
    drawn(page)
    at(page, "#looked", 0.1, 0.9)
    weight = seen["head.blocks.0.cross.0.weights"][0, :, second].mean(0).view(4, 4)[-1, 0]
    assert float(page.inner_text("#weight")) == pytest.approx(float(weight), abs=1e-4)
    page.select_option("label:has-text('said') select", "0")
    drawn(page)
    assert page.locator("#looked").count() == 0


def test_boxes_are_those_of_the_answer():
    model, batch, made = page_of("detr")
    view = made.data["views"]["queries"]
    with torch.no_grad():
        answer = model(**batch)[0]
    close(torch.tensor(view["boxes"][-1]), corners(answer[view["numbers"], -4:]), 1e-6)
    surest = answer[:, :-4].softmax(-1)[:, :-1].amax(-1)
    assert view["numbers"] == surest.argsort(descending=True).tolist()
    kind = int(answer[view["numbers"][0], :-5].argmax())
    assert made.data["answer"][0] == (str(kind), pytest.approx(float(surest.max()), abs=1e-5))
    assert made.data["views"]["attribution"]["for"] == str(kind)


@pytest.mark.slow
def test_twelve_layers_of_twelve_heads_over_512_tokens_are_drawn_without_a_stall(browse, tmp_path):
    model = ef.create("gpt", vocabulary=300, width=192, depth=12, heads=12, length=512, seed=0).eval()
    for name, weight in model.named_parameters():
        if "query" in name or "key" in name:
            weight.data.mul_(12)  # peaked rows: what a trained model has, and what packs worst
    ids = torch.randint(0, 300, (1, 512), generator=torch.Generator().manual_seed(0))
    path = ef.look(model, ids, view="model").save(tmp_path / "look.html")
    print(f"{path.stat().st_size / 2**20:.1f} MiB")
    assert path.stat().st_size < 25 * 2**20
    page = browse(path)
    for view in ("model", "heads", "neurons"):
        started = perf_counter()
        tab(page, view)
        print(view, f"{perf_counter() - started:.2f} s")
        assert perf_counter() - started < 5, view
    started = perf_counter()
    tab(page, "heads")
    page.dblclick("#heads button:nth-child(7)")
    drawn(page)
    page.locator("select").first.select_option("11")
    drawn(page)
    assert perf_counter() - started < 5
