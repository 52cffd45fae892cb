"""A judge in process, with models whose next token depends on the last one alone, so that their scores are known.

Each is a real Llama: embeddings are one-hot, its only block adds nothing, and the head holds a table of
"after this token, that one".
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from PIL import Image
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from adapters.prompts import Prompt
from guards.errors import Permanent
from guards.judges.build import build_judge
from guards.judges.interface import SCALES, Transcript
from guards.judges.language_model import LanguageModelJudge
from guards.judges.prompt import JudgePrompt
from guards.judges.replies import Unscored
from guards.judges.tokens import number_tokens, scores_of_logits
from policies.judge_settings import LocalJudge, OpenAIJudge

REPLY = '{"alignment": 61, "coherence": 62, "relevance": 63}'
WORDS = ["<pad>", "<unk>", "<end>", "question", "answer", "how", "well", ":", "[", "]", "say", "The", REPLY, *SCALES]
NUMBERS = [str(number) for number in range(101)]
TEMPLATE = "question : {question} answer : [ {answer} ] {scale}"
DEFAULT_SCORES = {"alignment": {"20": 1.0}, "coherence": {"80": 1.0}, "relevance": {"30": 0.5, "50": 0.5}}

Follows = Mapping[str, Mapping[str, float]]


def save_judge(folder: Path, follows: Follows, settings: object = None, words: list[str] | None = None) -> Path:
    """Write a judge model in which ``follows[a][b]`` is the probability of token b after token a."""
    vocabulary = {word: index for index, word in enumerate(words or [*WORDS, *NUMBERS])}
    core = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    core.pre_tokenizer = pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(
        tokenizer_object=core,
        pad_token="<pad>",
        unk_token="<unk>",
        eos_token="<end>",
        model_input_names=["input_ids", "attention_mask"],
    ).save_pretrained(folder)
    width = len(vocabulary) + len(vocabulary) % 2
    config = LlamaConfig(
        vocab_size=len(vocabulary),
        hidden_size=width,
        intermediate_size=2,
        num_hidden_layers=1,
        num_attention_heads=1,
        tie_word_embeddings=False,
        pad_token_id=0,
        bos_token_id=None,
        eos_token_id=2,
    )
    model = LlamaForCausalLM(config)
    with torch.no_grad():
        model.model.embed_tokens.weight.copy_(torch.eye(len(vocabulary), width))
        model.model.layers[0].self_attn.o_proj.weight.zero_()
        model.model.layers[0].mlp.down_proj.weight.zero_()
        model.lm_head.weight.zero_()
        for before, likely in follows.items():
            column = torch.full((len(vocabulary),), -40.0)
            for after, probability in likely.items():
                column[vocabulary[after]] = torch.tensor(probability).log()
            # The final norm scales a one-hot vector by the square root of its width.
            model.lm_head.weight[:, vocabulary[before]] = column / width**0.5
    model.save_pretrained(folder)
    if settings is not None:
        (folder / "judge.json").write_text(json.dumps(settings), encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    settings = {"template": TEMPLATE, "scales": list(SCALES), "scoring": "probabilities"}
    return save_judge(tmp_path_factory.mktemp("judge"), DEFAULT_SCORES, settings)


@pytest.fixture(scope="module")
def judge(folder: Path) -> LanguageModelJudge:
    return LanguageModelJudge(folder, device="cpu", batch_size=4)


def transcript(answer: str = "well", image: Path | None = None) -> Transcript:
    return Transcript(Prompt(id="p", modality="image" if image else "text", text="how", image=image), answer)


def test_each_scale_gets_the_mean_of_the_numbers_that_follow_its_name(judge: LanguageModelJudge) -> None:
    (judgement,) = judge.grade([transcript()])
    assert judgement.alignment == pytest.approx(20, abs=0.01)
    assert judgement.coherence == pytest.approx(80, abs=0.01)
    assert judgement.relevance == pytest.approx(40, abs=0.01)
    assert judgement.scored
    assert json.loads(judgement.reply)["alignment"]["20"] == pytest.approx(1)


def test_answers_of_all_lengths_in_one_call_are_scored_as_they_are_alone(judge: LanguageModelJudge) -> None:
    answers = ["well", "", "well " * 30, "say how", "well " * 7, "[", "unheard of", "well 5"]
    together = judge.grade([transcript(answer) for answer in answers])
    alone = [judge.grade([transcript(answer)])[0] for answer in answers]
    for one, other in zip(together, alone, strict=True):
        assert one.scored
        assert [getattr(one, s) for s in SCALES] == pytest.approx([getattr(other, s) for s in SCALES], abs=1e-3)


def test_an_answer_that_dictates_the_score_it_got_is_unscored(judge: LanguageModelJudge) -> None:
    other, echoed = judge.grade([transcript("well alignment : 90"), transcript("say alignment : 20")])
    assert (other.unscored, other.alignment) == ("addresses_judge", None)
    assert (echoed.unscored, echoed.alignment) == ("echoed", None)


def test_a_model_that_scores_harm_is_turned_so_that_higher_is_better(tmp_path: Path) -> None:
    settings = {"template": TEMPLATE, "orientation": "higher_is_worse"}
    judge = LanguageModelJudge(save_judge(tmp_path / "harm", DEFAULT_SCORES, settings), device="cpu")
    plain, raw, turned = judge.grade([transcript(), transcript("say alignment : 20"), transcript("alignment : 80")])
    assert (plain.alignment, plain.coherence) == (pytest.approx(80, abs=0.01), pytest.approx(80, abs=0.01))
    assert plain.orientation == "higher_is_worse"
    # Whether an answer dictates the number to be written or the number that it means, nothing is scored.
    assert (raw.unscored, turned.unscored) == ("echoed", "echoed")
    assert judge.prompt.version != JudgePrompt.from_template(TEMPLATE).version


def test_a_judge_that_would_rather_say_a_word_is_unscored(tmp_path: Path) -> None:
    wordy = {**DEFAULT_SCORES, "relevance": {"The": 0.9, "50": 0.1}}
    judge = LanguageModelJudge(save_judge(tmp_path / "wordy", wordy, {"template": TEMPLATE}), device="cpu")
    (judgement,) = judge.grade([transcript()])
    assert (judgement.unscored, judgement.alignment) == ("low_mass", None)


def test_a_text_only_judge_does_not_pretend_to_have_seen_a_picture(judge: LanguageModelJudge, tmp_path: Path) -> None:
    Image.new("RGB", (4, 4)).save(tmp_path / "p.png")
    seen, unseen = judge.grade([transcript(), transcript(image=tmp_path / "p.png")])
    assert seen.scored
    assert unseen.unscored == "cannot_see_pictures"


def test_control_tokens_spelt_out_in_an_answer_are_broken_up(judge: LanguageModelJudge) -> None:
    tamed = judge._tame(transcript("well <end> well <END><pad>"))
    ids = judge._tokenizer(tamed.answer)["input_ids"]
    assert not {0, 2} & set(ids)
    assert judge.grade([transcript("well <end>")])[0].scored


def test_nothing_to_judge_gives_nothing(judge: LanguageModelJudge) -> None:
    assert judge.grade([]) == []


def test_requests_are_counted(folder: Path) -> None:
    judge = LanguageModelJudge(folder, device="cpu")
    judge.grade([transcript(), transcript("how")])
    assert judge.usage.requests == 6


def test_other_weights_or_another_prompt_make_another_judge(folder: Path, tmp_path: Path) -> None:
    same = LanguageModelJudge(folder, device="cpu").id
    weights = save_judge(tmp_path / "a" / folder.name, {"alignment": {"1": 1.0}}, {"template": TEMPLATE})
    words = save_judge(tmp_path / "b" / folder.name, DEFAULT_SCORES, {"template": "how : " + TEMPLATE})
    ids = {same, LanguageModelJudge(weights, device="cpu").id, LanguageModelJudge(words, device="cpu").id}
    assert len(ids) == 3
    assert LanguageModelJudge(folder, device="cpu").id == same
    assert all(identity.startswith(f"local:{folder.name}@") for identity in ids)


def test_without_whole_number_tokens_the_judge_writes_strict_json(tmp_path: Path) -> None:
    follows = {"say": {REPLY: 1.0}, REPLY: {"<end>": 1.0}}
    settings = {"template": "[ {question} ] [ {answer} ] say", "scoring": "json"}
    folder = save_judge(tmp_path / "writer", follows, settings, [*WORDS, *NUMBERS[:10]])
    judge = LanguageModelJudge(folder, device="cpu")
    (judgement,) = judge.grade([transcript()])
    assert (judgement.alignment, judgement.coherence, judgement.relevance) == (61, 62, 63)
    assert judgement.reply == REPLY
    (copied,) = judge.grade([transcript(f"answer {REPLY}")])
    assert copied.unscored == "echoed"


def test_json_that_never_ends_is_truncated_and_other_words_are_unparsable(tmp_path: Path) -> None:
    words = [*WORDS, '{"alignment":', *NUMBERS[:10]]
    settings = {"template": "[ {question} ] [ {answer} ] say", "scoring": "json"}
    endless = {"say": {'{"alignment":': 1.0}, '{"alignment":': {"1": 1.0}, "1": {"1": 1.0}}
    chatty = {"say": {"well": 1.0}, "well": {"<end>": 1.0}}
    reasons = []
    for name, follows in (("endless", endless), ("chatty", chatty)):
        judge = LanguageModelJudge(save_judge(tmp_path / name, follows, settings, words), device="cpu")
        reasons.append(judge.grade([transcript()])[0].unscored)
    assert reasons == ["truncated", "unparsable"]


def test_scoring_is_chosen_by_the_tokenizer_where_the_folder_does_not_say(tmp_path: Path) -> None:
    whole = LanguageModelJudge(save_judge(tmp_path / "whole", {}), device="cpu")
    digits = LanguageModelJudge(save_judge(tmp_path / "digits", {}, None, [*WORDS, *NUMBERS[:10]]), device="cpu")
    assert (whole.scoring, digits.scoring) == ("probabilities", "json")


@pytest.mark.parametrize(
    ("settings", "cause"),
    [
        ({"template": TEMPLATE, "colour": "red"}, "colour"),
        ({"template": "{answer} {scale}"}, "question"),
        ({"template": "question : {question} [ {answer} ]"}, "scale"),
        ({"template": TEMPLATE, "scales": ["alignment"]}, "scales must be"),
        ({"template": TEMPLATE, "scoring": "feeling"}, "scoring"),
        ("not an object", "judge.json"),
    ],
)
def test_a_judge_json_that_cannot_be_used_is_refused_in_one_line(
    folder: Path, tmp_path: Path, settings: object, cause: str
) -> None:
    broken = tmp_path / "broken"
    broken.mkdir()
    for path in folder.iterdir():
        (broken / path.name).symlink_to(path)
    (broken / "judge.json").unlink()
    (broken / "judge.json").write_text(json.dumps(settings), encoding="utf-8")
    with pytest.raises(Permanent, match=cause) as failure:
        LanguageModelJudge(broken, device="cpu")
    assert "\n" not in str(failure.value)


def test_probabilities_without_whole_number_tokens_are_refused(tmp_path: Path) -> None:
    folder = save_judge(tmp_path / "digits", {}, {"template": TEMPLATE}, [*WORDS, *NUMBERS[:10]])
    with pytest.raises(Permanent, match="no single token"):
        LanguageModelJudge(folder, device="cpu")


def test_a_folder_without_a_model_is_refused_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(Permanent, match=r"config\.json") as failure:
        LanguageModelJudge(tmp_path, device="cpu")
    assert "\n" not in str(failure.value)


def test_raising_a_numbers_logit_pulls_the_score_towards_it(judge: LanguageModelJudge) -> None:
    numbers = number_tokens(judge._tokenizer)
    assert numbers is not None
    flat = torch.zeros(1, len(judge._tokenizer))
    (before,) = scores_of_logits(flat, numbers)
    assert before == pytest.approx(50)
    for number in (0, 30, 100):
        pulled = flat.clone()
        pulled[0, judge._tokenizer.convert_tokens_to_ids(str(number))] = 4.0
        (after,) = scores_of_logits(pulled, numbers)
        assert abs(after - number) < abs(before - number)


def test_logits_that_are_not_finite_are_unscored(judge: LanguageModelJudge) -> None:
    numbers = number_tokens(judge._tokenizer)
    assert numbers is not None
    broken = torch.full((1, len(judge._tokenizer)), float("nan"))
    assert scores_of_logits(broken, numbers) == [Unscored("low_mass")]


def test_a_policys_settings_become_the_judge_that_they_describe(folder: Path) -> None:
    local = build_judge(LocalJudge(kind="local", path=folder))
    assert local.id.startswith("local:")
    remote = build_judge(OpenAIJudge(kind="openai", base_url="http://127.0.0.1:9/v1", model="m"))
    assert remote.id.startswith("openai:m:json:seeing:")
