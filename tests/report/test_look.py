"""Pages of models: what they show are the model's own numbers."""

from __future__ import annotations

import base64
import re
import zlib
from types import SimpleNamespace

import numpy as np
import pytest
import torch

import everyformer as ef
from everyformer.costs import parameters
from everyformer.designs import Design
from everyformer.errors import BadInput, UnknownName
from everyformer.interpret.attribution import token_sums
from everyformer.report.inside import gather
from everyformer.report.packing import coarser, deflated, pooled, signed
from everyformer.report.samples import sample_of
from support.browser import acted, needs_browser
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


@pytest.mark.parametrize(("task", "names"), [("segmentation", ["0", "1"]), ("depth", ["the mean distance"])])
def test_a_map_is_looked_at_by_its_mean(task, names, tmp_path):
    made = TINY[task](tmp_path)
    run = SimpleNamespace(task=made.task, model=made.model, design=Design(made.model.spec))
    data = gather(sample_of(run, str(made.raw[0])))
    said = made.model(**made.task.prepare(made.raw[:1])).mean((2, 3))[0]
    assert data["views"]["attribution"]["for"] == names[int(said.argmax())]
    assert {name for name, _ in data["answer"] or []} == (set(names) if task == "segmentation" else set())


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


@needs_browser
def test_the_browser_shows_the_tensors_of_text(tmp_path):
    model = model_of(tiny("gpt"))
    page = ef.look(model, IDS, words=LETTERS[:14], answers=LETTERS).save(tmp_path / "look.html")
    got = acted(page, """
      const draw = document.getElementById("drawing");
      for (let i = 0; i < 6; i++) draw.dispatchEvent(new KeyboardEvent("keydown", {key: "ArrowDown"}));
      const all = document.getElementById("readout").textContent;
      document.querySelectorAll("#heads button")[2].dispatchEvent(new MouseEvent("dblclick"));
      const list = document.querySelectorAll("select"); list[1].value = 1; list[1].dispatchEvent(new Event("change"));
      const map = await until(() => document.getElementById("drawing").style.imageRendering === "pixelated" && document.getElementById("drawing"));
      for (const key of ["ArrowDown", "ArrowDown", "ArrowDown", "ArrowRight"]) map.dispatchEvent(new KeyboardEvent("keydown", {key}));
      const one = document.getElementById("readout").textContent;
      await open("lens");
      const layers = [...document.querySelectorAll("#layers tr")].map(r => [...r.cells].map(c => [c.textContent, c.dataset.share]));
      await open("attribution");
      document.querySelector("select").value = 1; document.querySelector("select").dispatchEvent(new Event("change"));
      await until(() => document.getElementById("view").dataset.ready === "attribution");
      const words = [...document.querySelectorAll("#words span")].map(s => Number(s.dataset.value));
      await open("neurons");
      const select = document.querySelectorAll("select")[2]; select.value = 5; select.dispatchEvent(new Event("change"));
      await until(() => document.getElementById("view").dataset.ready === "neurons");
      const dots = [...document.querySelectorAll(".dot")].map(d => Number(d.textContent));
      await open("parts");
      const tree = document.getElementById("tree").textContent;
      await open("model");
      document.querySelectorAll("#thumbnails canvas")[6].click();
      await until(() => document.getElementById("view").dataset.ready === "heads");
      const opened = [document.querySelectorAll("select")[0].selectedIndex, [...document.querySelectorAll("#heads button")].map(b => b.getAttribute("aria-pressed"))];
      document.getElementById("tab-heads").dispatchEvent(new KeyboardEvent("keydown", {key: "ArrowRight"}));
      await until(() => document.getElementById("view").dataset.ready === "model");
      return {all, one, layers, words, dots, tree, opened, answer: document.getElementById("answer").textContent, wide: document.documentElement.scrollWidth};
    """, tmp_path)  # fmt: skip
    with ef.interpret.record(model, "**.weights", "backbone.blocks.0.mixer.scores") as seen, torch.no_grad():
        logits = model(IDS)
    weights = seen["backbone.blocks.0.mixer.weights"][0]
    row = weights.mean(0)[5]
    best = int(row.argmax())
    assert got["all"].startswith(f"from f to {LETTERS[best]}: ")
    assert float(re.search(r"\d\.\d+", got["all"]).group()) == pytest.approx(float(row[best]), abs=1e-4)
    assert got["one"].startswith("from d to b: ")
    assert float(re.search(r"\d\.\d+", got["one"]).group()) == pytest.approx(float(weights[2, 3, 1]), abs=1e-4)
    said = ef.interpret.logit_lens(model, inputs=IDS)
    for row, logits_there in zip(reversed(got["layers"][1:]), said.values(), strict=True):
        share, which = logits_there[0].softmax(-1).max(-1)
        assert [cell[0] for cell in row[1:]] == [LETTERS[i] for i in which]
        close(torch.tensor([float(cell[1]) for cell in row[1:]]), share, 1e-4)
    answer = int(logits[0, -1].argmax())
    (values,) = ef.interpret.attribute(
        model, {"inputs": IDS}, lambda x: x[:, -1].log_softmax(-1)[:, answer], ef.interpret.InputXGradient()
    )
    close(torch.tensor(got["words"]), token_sums(values), 1e-4)
    close(torch.tensor(got["dots"]), seen["backbone.blocks.0.mixer.scores"][0, 0, 5], 1e-3)
    assert got["opened"] == [1, ["false", "false", "true", "false"]]
    assert got["answer"].startswith(f"says {LETTERS[answer]} ")
    assert "Attention" in got["tree"]
    assert f"{parameters(model) / 1000:.1f} k" in got["tree"]


@needs_browser
@pytest.mark.parametrize("name", ["vit", "ast", "itransformer", "transformer", "bert"])
def test_every_view_of_every_kind_opens_on_a_phone_in_the_dark(name, tmp_path):
    _, _, page = page_of(name)
    got = acted(page.save(tmp_path / "look.html"), """
      const seen = {};
      for (const tab of document.querySelectorAll("[role=tab]")) {
        await open(tab.id.slice(4));
        seen[tab.id.slice(4)] = document.getElementById("view").textContent.length + document.querySelectorAll("#view canvas").length;
      }
      return {seen, wide: document.documentElement.scrollWidth, page: innerWidth, back: getComputedStyle(document.body).backgroundColor};
    """, tmp_path, size="390,800", dark=True)  # fmt: skip
    assert set(got["seen"]) == {"heads", "model", "neurons", "lens", "attribution", "parts"} - (
        {"attribution"} if name == "transformer" else set()
    )
    assert min(got["seen"].values()) > 0
    assert got["wide"] <= got["page"]
    assert got["back"] == "rgb(21, 21, 26)"


@needs_browser
def test_where_a_patch_looks_is_read_on_the_picture(tmp_path):
    model, batch, page = page_of("vit")
    got = acted(page.save(tmp_path / "look.html"), """
      const at = (made, x, y) => { const box = made.getBoundingClientRect(); return {clientX: box.left + x * box.width, clientY: box.top + y * box.height, bubbles: true}; };
      document.getElementById("drawing").dispatchEvent(new MouseEvent("click", at(document.getElementById("drawing"), .6, .1)));
      document.getElementById("looked").dispatchEvent(new PointerEvent("pointermove", at(document.getElementById("looked"), .1, .9)));
      return document.getElementById("readout").textContent;
    """, tmp_path)  # fmt: skip
    with ef.interpret.record(model, "backbone.blocks.0.mixer.weights") as seen:
        model(**batch)
    assert got.startswith("from 0,2 to 3,0: ")
    weight = seen["backbone.blocks.0.mixer.weights"][0, :, 1 + 2, 1 + 12].mean()
    assert float(re.search(r"0\.\d+", got).group()) == pytest.approx(float(weight), abs=1e-4)
