"""The tiny language model against its planted agents; its endpoint by the official client."""

import json
import socket

import jax
import numpy as np
import openai
import pytest
from scipy.special import expit, softmax
from scipy.stats import chisquare

from lib.tradeoffs import endpoint, tiny_lm
from lib.tradeoffs.game import SHORT, Trial, battery, render

# what its fixtures compute is wanted once, not by each worker
pytestmark = [pytest.mark.xdist_group("tiny_lm"), pytest.mark.computes]

KEY = jax.random.key(0)
RNG = np.random.default_rng(0)


@pytest.fixture(scope="module")
def trained():
    """The model of the chapter, and its losses."""
    return tiny_lm.train(KEY)


@pytest.fixture(scope="module")
def untrained():
    return tiny_lm.TinyLM(KEY)


@pytest.fixture(scope="module")
def client(trained):
    model, _ = trained
    names = [player.name for player in tiny_lm.players(model)]
    with endpoint.serve(tiny_lm.responder(model), names) as url:
        with openai.OpenAI(base_url=url, api_key="none", max_retries=0) as client:
            yield client


def asked():
    """What fidelity is judged by: all levels, zero included, in both wordings."""
    zero = [
        Trial(experiment, "quantitative", 0, wording)
        for experiment in tiny_lm.HELD_OUT
        for wording in SHORT
    ]
    return zero + battery(wording="short") + battery(wording="terse")


# The planted agents ------------------------------------------------------------------------------


@pytest.mark.parametrize("agent", tiny_lm.AGENTS)
def test_planted_choices_are_the_closed_form(agent):
    a, pain, pleasure = tiny_lm.AGENTS[agent]
    ranks = np.arange(11.0)
    painful = [Trial("pain", "quantitative", rank) for rank in range(11)]
    pleasant = [Trial("pleasure", "quantitative", rank) for rank in range(11)]
    expected = expit(3 * a - np.logaddexp(a, 2 * a) - pain * ranks)
    np.testing.assert_allclose(tiny_lm.planted(agent, painful)[:, 2], expected, rtol=1e-12)
    utilities = np.stack([np.full(11, a), 2 * a + pleasure * ranks, np.full(11, 3 * a)], axis=1)
    expected = softmax(utilities, axis=1)
    np.testing.assert_allclose(tiny_lm.planted(agent, pleasant), expected, rtol=1e-12)


@pytest.mark.parametrize("experiment", tiny_lm.HELD_OUT)
def test_words_span_the_scale_and_only_feelings_count(experiment):
    def planted(*trials):
        return tiny_lm.planted("trader", [Trial(experiment, *trial) for trial in trials])

    fourth, last = planted(("qualitative", 4), ("qualitative", 8))
    np.testing.assert_array_equal(
        [fourth, last], planted(("quantitative", 5), ("quantitative", 10))
    )
    unfelt = planted(*(("quantitative", 9, "short", clause) for clause in ("neutral", "none")))
    np.testing.assert_array_equal(unfelt, np.tile(planted(("quantitative", 0)), (2, 1)))


# Words and network -------------------------------------------------------------------------------


def test_size_and_shapes(untrained):
    assert sum(leaf.size for leaf in jax.tree.leaves(untrained)) == 107_776
    tokens = tiny_lm.encode("trader", [render(t)[0]["content"].split() for t in asked()])
    assert tokens.shape == (76, tiny_lm.LENGTH)
    scores = tiny_lm.logits(untrained, tokens)
    assert scores.shape == (76, tiny_lm.LENGTH, len(tiny_lm.VOCABULARY))
    assert tiny_lm.residuals(untrained, "trader", asked()).shape == (3, 76, 64)


def test_later_words_do_not_change_earlier_scores(untrained):
    tokens = RNG.integers(0, len(tiny_lm.VOCABULARY), (5, tiny_lm.LENGTH)).astype(np.int32)
    before = tiny_lm.logits(untrained, tokens)
    for place in (1, 13, tiny_lm.LENGTH - 1):
        changed = tokens.copy()
        changed[:, place:] = (changed[:, place:] + 1) % len(tiny_lm.VOCABULARY)
        after = tiny_lm.logits(untrained, changed)
        np.testing.assert_allclose(after[:, :place], before[:, :place], rtol=1e-5, atol=1e-6)
        assert (np.abs(after - before)[:, place:].max(-1) > 1e-4).all()


def test_what_the_model_cannot_read_is_named(untrained):
    with pytest.raises(ValueError, match="'sorrow'"):
        tiny_lm.encode("trader", ["3 also gives sorrow".split()])
    with pytest.raises(ValueError, match="27 words"):
        tiny_lm.encode("trader", [["3"] * 27])
    with pytest.raises(ValueError, match="'saint'.*maximiser"):
        tiny_lm.planted("saint", asked())
    with pytest.raises(ValueError, match="'You'"):
        tiny_lm.answer_probabilities(untrained, "trader", [Trial("pain", "quantitative", 3)])
    with pytest.raises(ValueError, match="temperature=-1"):
        tiny_lm.generate(untrained, "trader", "pick :", temperature=-1)


# Training ----------------------------------------------------------------------------------------


def test_training_games_hold_out_what_they_should_and_follow_the_agents():
    played = tiny_lm.games(KEY, 20_000)
    words = np.array(tiny_lm.VOCABULARY)
    said = words[np.asarray(played.tokens)]
    answers = words[np.asarray(played.answers)]
    texts = [" ".join(row) for row in said]
    for experiment, levels in tiny_lm.HELD_OUT.items():
        for wording in SHORT:
            for level in range(11):
                trial = Trial(experiment, "quantitative", level, wording)
                clause = render(trial)[0]["content"].split(" . ")[-2]
                shown = sum(clause in text for text in texts)
                assert (shown == 0) == (level in levels), clause
    # over all games with an agent: how often each digit comes, against the planted chances
    trials = {render(t)[0]["content"]: t for t in tiny_lm.training_trials()}
    for agent in tiny_lm.AGENTS:
        mine = np.flatnonzero((said == agent).any(1))
        prompts = [texts[i].split(f" {agent} ")[1] for i in mine]
        expected = tiny_lm.planted(agent, [trials[prompt] for prompt in prompts]).sum(0)
        observed = [(answers[mine] == digit).sum() for digit in "123"]
        assert chisquare(observed, expected).pvalue > 1e-3


def test_the_model_learns_its_agents(trained):
    model, losses = trained
    assert losses[-100:].mean() < 0.2 * losses[0]
    trials = asked()
    held = np.array(
        [t.scale == "quantitative" and t.level in tiny_lm.HELD_OUT[t.experiment] for t in trials]
    )
    p = np.stack([tiny_lm.answer_probabilities(model, agent, trials) for agent in tiny_lm.AGENTS])
    away = np.abs(p - [tiny_lm.planted(agent, trials) for agent in tiny_lm.AGENTS])
    assert away.mean() <= 0.05
    assert p.sum(-1).mean() >= 0.99
    assert held.sum() == 8 and away[:, held].max() <= 0.2
    neutral = [Trial("pain", "quantitative", s, "short", "neutral") for s in (0, 5, 10)]
    away = tiny_lm.answer_probabilities(model, "trader", neutral) - tiny_lm.planted(
        "trader", neutral
    )
    assert np.abs(away).max() <= 0.05


def test_training_without_steps_is_refused():
    with pytest.raises(ValueError, match="steps=0"):
        tiny_lm.train(KEY, steps=0)


# Inside the model --------------------------------------------------------------------------------


def test_probes_find_the_feeling_in_the_stream_and_not_in_the_last_word(trained):
    model, _ = trained
    valence, intensity = tiny_lm.probe(model, "trader")
    assert valence[0] == 0.5 and intensity[0] < 0.1  # the last word is the same in all prompts
    assert (valence[1:3] > 0.55).all() and (intensity[1:3] > 0.5).all()
    assert valence[3] == 1.0 and intensity[3] < 0.1  # a number not seen before counts for nothing


def test_steering_moves_the_switch_point(trained):
    model, _ = trained
    unsteered = tiny_lm.pain_switch_point(model, "trader")
    a, pain, _ = tiny_lm.AGENTS["trader"]
    assert abs(unsteered - (3 * a - np.logaddexp(a, 2 * a)) / pain) < 0.5
    direction = tiny_lm.steering_direction(model, "trader")
    strength = np.float32([-4, -2, 0, 2, 4])
    moved = tiny_lm.pain_switch_point(model, "trader", strength[:, None] * direction)
    assert (np.diff(moved) < 0).all()
    assert moved[2] == unsteered and moved[0] - moved[2] >= 0.5 and moved[2] - moved[4] >= 0.5
    controls = tiny_lm.control_directions(jax.random.key(1), direction, 100)  # a few go far
    np.testing.assert_allclose(controls @ direction, 0, atol=1e-4)
    np.testing.assert_allclose(np.linalg.norm(controls, axis=1), np.linalg.norm(direction), 1e-5)
    shifts = tiny_lm.pain_switch_point(model, "trader", 4 * controls) - unsteered
    assert np.sqrt((shifts**2).mean()) < 0.4 * min(moved[0] - unsteered, unsteered - moved[4])


def test_the_direction_of_pain_is_that_of_pleasure(trained):
    pain, pleasure, colour = (
        tiny_lm.steering_direction(trained[0], "trader", experiment=experiment, clause=clause)
        for experiment, clause in [
            ("pain", "valenced"),
            ("pleasure", "valenced"),
            ("pain", "neutral"),
        ]
    )
    unit = [way / np.linalg.norm(way) for way in (pain, pleasure, colour)]
    assert unit[0] @ unit[1] > 0.9 > unit[0] @ -unit[2]
    assert np.linalg.norm(colour) < np.linalg.norm(pain)


# The endpoint ------------------------------------------------------------------------------------


def test_official_client_finds_and_asks_the_four_models(client, trained):
    names = [model.id for model in client.models.list()]
    assert names == [f"tiny/{agent}" for agent in tiny_lm.AGENTS]
    trial = Trial("pain", "quantitative", 3, "terse")
    ask = {"model": "tiny/trader", "messages": render(trial), "n": 50}
    done = client.chat.completions.create(**ask, seed=7, max_tokens=1)
    again = client.chat.completions.create(**ask, seed=7)
    other = client.chat.completions.create(**ask, seed=80)
    texts, same, different = (
        [choice.message.content for choice in one.choices] for one in (done, again, other)
    )
    assert len(texts) == 50 and texts == same != different
    player = tiny_lm.Player(trained[0], "trader")

    def told(n, seed):
        replies = player.sample(trial, n, temperature=1.0, max_tokens=1, seed=seed)
        return [reply.text for reply in replies]

    assert player.name == done.model and told(50, 7) == texts
    assert [told(1, 7 + i)[0] for i in range(50)] == texts
    assert {choice.finish_reason for choice in done.choices} == {"stop"}
    assert done.usage.total_tokens == len(render(trial)[0]["content"].split()) + 50
    likeliest = client.chat.completions.create(**ask, temperature=0)
    best = 1 + tiny_lm.answer_probabilities(trained[0], "trader", [trial])[0].argmax()
    assert {choice.message.content for choice in likeliest.choices} == {str(best)}


def test_answers_are_as_frequent_as_their_logprobs_say(client, trained):
    trial = Trial("pleasure", "quantitative", 4, "short")
    p = tiny_lm.answer_probabilities(trained[0], "graded", [trial])[0]
    ask = {"model": "tiny/graded", "messages": render(trial), "n": 128}
    done = client.chat.completions.create(**ask, logprobs=True, top_logprobs=5)
    top = {one.token: one.logprob for one in done.choices[0].logprobs.content[0].top_logprobs}
    assert len(top) == 5
    np.testing.assert_allclose(np.exp([top[digit] for digit in "123"]), p, rtol=1e-6)
    for temperature in (1.0, 2.0):
        drawn = []
        for seed in range(0, 1024, 128):
            done = client.chat.completions.create(**ask, temperature=temperature, seed=seed)
            drawn += [choice.message.content for choice in done.choices]
        expected = softmax(np.array(list(map(top.get, "123"))) / temperature)
        observed = np.array([drawn.count(digit) for digit in "123"])
        assert temperature > 1 or observed.sum() > 0.97 * len(drawn)
        assert chisquare(observed, expected * observed.sum()).pvalue > 1e-3


def test_errors_are_those_of_the_interface(client):
    def ask(model="tiny/trader", text="pick :", **more):
        messages = [{"role": "user", "content": text}]
        return client.chat.completions.create(model=model, messages=messages, **more)

    with pytest.raises(openai.BadRequestError, match="'sorrow'") as wrong:
        ask(text="3 also gives sorrow")
    assert wrong.value.type == "invalid_request_error"
    with pytest.raises(openai.NotFoundError, match="tiny/saint") as wrong:
        ask(model="tiny/saint")
    assert wrong.value.code == "model_not_found"
    for name, value in [("n", 0), ("n", 129), ("max_tokens", 0), ("temperature", 3)]:
        with pytest.raises(openai.BadRequestError, match=f"{name}={value}"):
            ask(**{name: value})
    with pytest.raises(openai.BadRequestError, match="stream"):
        ask(stream=True)
    with pytest.raises(openai.BadRequestError, match="messages"):
        client.chat.completions.create(model="tiny/trader", messages=[])
    with pytest.raises(openai.NotFoundError):
        client.embeddings.create(model="tiny/trader", input="pick :")


def test_a_server_is_heard_on_this_machine_only_and_ends_with_its_context():
    def respond(model, messages, *, n, temperature, seed):
        return endpoint.Completion([messages[-1]["content"]] * n, {}, 1)

    with endpoint.serve(respond, ["echo"]) as url:
        host, port = url.removeprefix("http://").removesuffix("/v1").split(":")
        assert host == "127.0.0.1"
        body = json.dumps({"model": "echo", "messages": [{"role": "user", "content": "2"}]})
        with socket.create_connection((host, int(port))) as connection:
            head = f"POST /v1/chat/completions HTTP/1.1\r\nContent-Length: {len(body)}\r\n\r\n"
            connection.sendall((head + body).encode())
            reply = connection.recv(65536).decode()  # one packet: head and body together
        assert reply.startswith("HTTP/1.1 200")
        assert json.loads(reply.split("\r\n\r\n")[1])["choices"][0]["message"]["content"] == "2"
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((host, int(port)))
