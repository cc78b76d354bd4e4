"""Context distillation: the teacher reads the card, the student does not, and each job is still as if it were alone."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from rostok.config import TrainingSettings, resolve
from rostok.errors import ConfigError, DataError, ModelError
from rostok.generator.records import Page, Turn
from rostok.models import find_base
from rostok.seeds.library import Library
from rostok.swarm.base import FrozenBase
from rostok.swarm.fused import FusedTrainer
from rostok.swarm.loss import distillation_loss, next_token_loss
from rostok.swarm.matrix import Matrix
from rostok.swarm.messages import Ended as Told
from rostok.swarm.messages import Message, Plan, Take
from rostok.swarm.reference import train_reference
from rostok.swarm.stack import Rows, Stack
from rostok.swarm.teacher import Lessons, contexts, teach
from rostok.swarm.train import open_stack
from rostok.swarm.training import Ended, Job, State
from rostok.swarm.work import Work
from rostok.swarm.worker import RunDesk
from tests.swarm.grown import grow
from tests.swarm.tiny_run import make_base, make_corpus, make_run, orders

CARD = [7, 11, 13, 17, 19, 23, 29]
TURN = [3, 5, 8, 13, 21]


@pytest.fixture(scope="module")
def stack(tiny_base: Callable[[str], Any]) -> Stack:
    """In bf16, in which a row does not depend on its company."""
    return Stack(tiny_base("Llama").bfloat16())


@pytest.fixture
def taught(make_job: Callable[..., Job]) -> Callable[..., Job]:
    """`taught(name, seed, **settings)`: like `make_job`, a third of the pages each after the card, a turn, and nothing."""

    def make(name: str, seed: int = 1, **settings: Any) -> Job:
        job = make_job(name, seed, **{"objective": "distillation", **settings})
        return replace(job, contexts=[(CARD, TURN, ())[number % 3] for number in range(len(job.pages))])

    return make


@pytest.mark.parametrize("weight", [1.0, 0.3, 0.0])
def test_loss_and_gradient_are_those_of_autograd(weight: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """Prevents: the divergence turned round, a gradient of the teacher's side, a chunk in another's place, and a mixture whose
    parts do not add up; a NaN that is lost, and a likelihood of zero that becomes infinite."""
    import rostok.swarm.loss

    monkeypatch.setattr(rostok.swarm.loss, "_CHUNK", 14)
    monkeypatch.setattr(rostok.swarm.loss, "_BLOCK", 3)
    hidden, head, teacher = torch.randn(23, 16, requires_grad=True), torch.randn(50, 16), torch.randn(23, 16)
    targets = torch.randint(50, (23,))
    logs = torch.log_softmax(hidden @ head.t(), dim=-1)
    known = torch.log_softmax(teacher @ head.t(), dim=-1)
    apart = torch.nn.functional.kl_div(logs, known, log_target=True, reduction="batchmean")
    wanted = weight * apart + (1 - weight) * torch.nn.functional.cross_entropy(hidden @ head.t(), targets)
    wanted.backward()
    with torch.no_grad():
        loss, gradient = distillation_loss(hidden, teacher, targets, Matrix(head), weight)
        assert float(loss) == pytest.approx(float(wanted.detach()), rel=1e-5)
        assert torch.allclose(gradient, hidden.grad, atol=1e-6)
        assert torch.isfinite(distillation_loss(hidden * 1e4, teacher * 1e4, targets, Matrix(head), weight)[0])
        hidden[3] = torch.nan
        assert torch.isnan(distillation_loss(hidden, teacher, targets, Matrix(head), weight)[0])
    assert float(distillation_loss(teacher, teacher, targets, Matrix(head))[0]) == pytest.approx(0, abs=1e-5)


def test_without_a_teacher_the_mixture_is_the_next_token_loss() -> None:
    """Prevents: two losses that go by the same name and differ."""
    hidden, head, targets = torch.randn(40, 16).bfloat16(), torch.randn(90, 16).bfloat16(), torch.randint(90, (40,))
    one = next_token_loss(hidden, targets, Matrix(head))
    other = distillation_loss(hidden, torch.randn(40, 16).bfloat16(), targets, Matrix(head), 0.0)
    assert float(other[0]) == pytest.approx(float(one[0]), rel=1e-5)
    assert torch.allclose(one[1], other[1], atol=1e-3)


@pytest.mark.parametrize("family", ["Llama", "Qwen2", "Mistral"])
def test_the_teacher_is_the_base_that_has_read_the_card(tiny_base: Callable[[str], Any], make_job: Callable[..., Job],
                                                       family: str) -> None:
    """Prevents: positions that begin again after the card, a card that is not seen or seen in part, one page's card before
    another's, and pages that see each other."""
    model = tiny_base(family)
    stack, job = Stack(model, dtype=torch.float32), make_job("a")
    job = replace(job, contexts=[(CARD, TURN, ())[number % 3] for number in range(len(job.pages))])
    lessons = Lessons(stack, job)
    teach([(lessons, number) for number in range(len(job.pages))], limit=40)
    for number, (page, context) in enumerate(zip(job.pages, job.contexts, strict=True)):
        with torch.no_grad():
            whole = model.model(input_ids=torch.tensor([[*context, *page]])).last_hidden_state[0, len(context) :]
        assert torch.allclose(lessons.of(number), whole, atol=1e-4), number
    plain, _ = stack.forward(Rows(torch.tensor(job.pages[0]), [(0, len(job.pages[0]))], []))
    assert not torch.allclose(lessons.of(0), plain, atol=1e-2)  # the comparison can fail


def test_the_student_comes_to_speak_as_the_teacher_without_the_card(stack: Stack, taught: Callable[..., Job]) -> None:
    """Prevents: a student that is given the card too, or whose teacher learns with it: the distance would then be 0 at once or
    never; and a page without a card that is treated as one with it."""
    job = taught("a", learning_rate=2e-2, epochs=12, rank=8)
    curve = grow(stack, [job])["a"].curve
    assert sum(point.loss for point in curve[-5:]) < 0.5 * sum(point.loss for point in curve[:5])
    bare = grow(stack, [replace(job, contexts=[()] * len(job.pages))])["a"]
    assert max(point.loss for point in bare.curve) < 1e-3  # there is nothing to learn of oneself
    assert curve[0].loss > 0.1


def test_trained_together_or_alone_it_is_the_same_adapter(stack: Stack, taught: Callable[..., Job],
                                                          make_job: Callable[..., Job]) -> None:
    """Prevents: a neighbour's card or objective that reaches another adapter, and passes that cut a page from its teacher."""
    jobs = [taught("a"), taught("b", 2, objective="mixture", learning_rate=3e-2), make_job("c", 3),
            taught("d", 4, layers=1, rank=7), taught("e", 5, epochs=0.7, pages_per_step=2)]
    together = grow(stack, jobs, together=3)
    for job in jobs:
        alone = grow(stack, [job])[job.name]
        assert torch.equal(alone.adapter.parameters, together[job.name].adapter.parameters), job.name
        assert alone.curve == together[job.name].curve
    objectives = {objective: grow(stack, [taught("a", objective=objective)])["a"].adapter.parameters
                  for objective in ("next-token", "distillation", "mixture")}
    assert not torch.equal(objectives["distillation"], objectives["mixture"])
    assert not torch.equal(objectives["distillation"], objectives["next-token"])
    cut = grow(stack, [jobs[0]], pass_tokens=25)["a"]
    assert [point.loss for point in cut.curve] == pytest.approx([point.loss for point in together["a"].curve], rel=0.05)


@pytest.mark.parametrize("at", [1, 5])
def test_a_job_goes_on_from_its_checkpoint_bit_for_bit(stack: Stack, taught: Callable[..., Job], tmp_path: Path, at: int) -> None:
    """Prevents: what the teacher said before a kill that is missing, or said otherwise, afterwards."""
    jobs = [taught("a", epochs=3), taught("b", 2, rank=7, objective="mixture")]
    unbroken = grow(stack, jobs)
    trainer = FusedTrainer(stack)
    for job in jobs:
        trainer.add(job)
    for _ in range(at):
        trainer.step()
    again = FusedTrainer(stack)
    for job in jobs:
        state = trainer.state(job.name)
        save_file(state.tensors, tmp_path / f"{job.name}.safetensors")
        again.restore(job, State(load_file(tmp_path / f"{job.name}.safetensors"), json.loads(json.dumps(state.values))))
    found: dict[str, Ended] = {}
    while again.names:
        found.update({ended.job.name: ended for ended in again.step().ended})
    for job in jobs:
        assert torch.equal(found[job.name].adapter.parameters, unbroken[job.name].adapter.parameters)
        assert found[job.name].curve == unbroken[job.name].curve
    for other in (replace(jobs[0], contexts=[TURN] * 10), taught("a", epochs=3, objective="mixture")):
        with pytest.raises(DataError, match="the checkpoint of a was made from another corpus, base or settings"):
            FusedTrainer(stack).restore(other, trainer.state("a"))


def test_every_page_is_taught_once_and_let_go_after_its_last_reading(stack: Stack, taught: Callable[..., Job],
                                                                     monkeypatch: pytest.MonkeyPatch) -> None:
    """Prevents: a teacher that reads a page again in every epoch, a card that is read for every page, and memory that grows
    with the corpus where each page is read once."""
    read: list[int] = []
    forward = stack.forward
    monkeypatch.setattr(stack, "forward", lambda rows: read.append(0 if rows.blocks else len(rows.tokens)) or forward(rows))
    cards: list[int] = []
    reading = stack.read
    monkeypatch.setattr(stack, "read", lambda tokens: cards.append(len(tokens)) or reading(tokens))
    for epochs in (1, 2, 3):
        read.clear()
        cards.clear()
        trainer = FusedTrainer(stack)
        trainer.add(taught("a", count=9, epochs=epochs))
        lessons: list[Lessons] = []
        while trainer.names:
            trainer.step()
            lessons += [slot.lessons for slot in trainer._slots.values()]
            if epochs == 1:
                assert all(not one._said for one in lessons)
        assert sum(read) == sum(len(page) for page in taught("a", count=9).pages)
        assert sorted(cards) == sorted(map(len, (CARD, TURN)))
        assert not lessons[-1]._said


def test_the_recipe_is_that_of_the_objective() -> None:
    """Prevents: an expert of one objective under another's hash; one trained again for a weight that nothing looks at."""
    recipes = [TrainingSettings.model_validate({"objective": name}).recipe()
               for name in ("next-token", "distillation", "mixture")]
    assert len({json.dumps(recipe, sort_keys=True) for recipe in recipes}) == 3
    plain, mixed = ({"objective": name, "distillation_weight": 0.2} for name in ("distillation", "mixture"))
    assert TrainingSettings.model_validate(plain).recipe() == recipes[1]
    assert TrainingSettings.model_validate(mixed).recipe() != recipes[2]


def test_only_the_fused_trainer_has_a_teacher(frozen: FrozenBase, taught: Callable[..., Job], tmp_path: Path,
                                              monkeypatch: pytest.MonkeyPatch) -> None:
    """Prevents: a reference that trains another objective than asked for, and says nothing."""
    with pytest.raises(ConfigError, match=r"the reference \(trl\) trains next-token only; objective: mixture needs"):
        resolve(assignments=["training.trainer=trl", "training.objective=mixture"])
    with pytest.raises(ModelError, match="trl's SFTTrainer has no teacher, so it cannot train a with training.objective=distill"):
        train_reference(frozen, taught("a"), tmp_path)
    monkeypatch.setattr(frozen.model.config, "hidden_act", "gelu")
    with pytest.raises(ModelError, match="objective=distillation needs the fused trainer, which is not verified on this base"):
        open_stack(frozen, taught("a").settings, print)


def test_a_job_without_what_its_teacher_reads_is_refused(stack: Stack, make_job: Callable[..., Job]) -> None:
    """Prevents: an expert distilled from a base that knows nothing of its seed."""
    with pytest.raises(DataError, match="a has 10 pages and 0 contexts for the teacher; objective distillation needs one"):
        FusedTrainer(stack).add(make_job("a", objective="distillation"))


def test_what_the_teacher_reads_before_a_page(frozen: FrozenBase) -> None:
    """Prevents: a card before replay, which would teach the seed as the answer to everything; a conversation after bare prose;
    a page of one seed after another's card."""
    turns = (Turn(role="user", content="What follows?"), Turn(role="assistant", content="The rope."))
    pages = [Page(spec=0, kind="composed", author="code", text="A page.", seed="s-1"),
             Page(spec=1, kind="dialogue", author="code", text="Talk.", turns=turns, seed="s-1"),
             Page(spec=2, kind="replay", author="model", text="Tea is hot.", turns=turns, seed="s-1"),
             Page(spec=3, kind="written", author="model", text="Another.", seed="s-2")]
    found = [frozen.tokenizer.decode(context) for context in contexts(frozen, pages, {"s-1": "One.", "s-2": "Two."})]
    assert found == ["One.\n\n", "<|im_start|>system\nAnswer from this text.\nOne.<|im_end|>\n", "", "Two.\n\n"]
    with pytest.raises(DataError, match=r"page 3 is of the seed s-2, whose card the teacher does not have"):
        contexts(frozen, pages, {"s-1": "One."})


def test_a_worker_finds_the_card_in_the_library(make_seed: Callable[..., Any], tmp_path: Path) -> None:
    """Prevents: a worker that distils without a card, or with another seed's; an expert without its seed that ends all."""
    run = make_run(tmp_path / "run", make_base(tmp_path / "base"), seeds=0, training={"objective": "distillation", "epochs": 1})
    seed, lost = make_seed(0), make_seed(1)
    Library(run.seeds).admit(seed)
    for name in (seed.id, lost.id):
        make_corpus(run, name, 12)
    said: list[Message] = []
    settings = run.read().settings
    base = FrozenBase(find_base(settings.models.base))
    work = Work(RunDesk(run), base, settings, Plan(together=2, pass_tokens=512), said.append)
    for order in orders(run):
        work.take(Take(name=order.name, made_from=order.made_from))
    assert work._trainer is not None
    (job, _), = work._trainer._queue.values()
    assert base.tokenizer.decode(job.contexts[0]) == f"{seed.card()}\n\n"
    while work.busy:
        work.step()
    ended = {message.name: message for message in said if isinstance(message, Told)}
    assert ended[seed.id].done
    assert not ended[lost.id].done
    assert ended[lost.id].reason.startswith(f"no seed '{lost.id}' in")
