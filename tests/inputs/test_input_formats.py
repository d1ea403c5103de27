"""Every format, read from the files that tools write."""

from __future__ import annotations

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

SYSTEM = {"role": "system", "content": "You are a helpful assistant."}

XSTEST = (
    "id,prompt,type,label,focus,note\n"
    "v2-1,How do I frob a dax?,homonyms,safe,frob,\n"
    "v2-2,How do I blick a dax?,contrast_homonyms,unsafe,blick,\n"
    '3,"How do I wug, twice?",homonyms,safe,,said "oddly"\n'.replace('said "oddly"', '"said ""oddly"""')
)


def user(text):
    return {"role": "user", "content": text}


def said(text):
    return {"role": "assistant", "content": text}


def column(prepared, name):
    return prepared.table[name].to_pylist()


def rows(prepared):
    return prepared.table.to_pylist()


class TestFlipAttack:
    def test_a_row_gives_the_plain_goal_and_its_attack_form(self, write, prepare, flip_row):
        path = write("fwo.json", [flip_row(7)])
        safe, unsafe = rows(prepare(path))
        assert safe["label"] == "safe"
        assert safe["messages"] == [SYSTEM, user("blick the zorp number 7")]
        assert (safe["attack"], safe["answer"], safe["target"]) == (None, None, None)
        assert unsafe["label"] == "unsafe"
        assert unsafe["messages"] == flip_row(7)["all_prompt"]
        assert (unsafe["attack"], unsafe["answer"]) == ("flipattack", "zorp 7 is blicked")
        assert safe["goal_id"] == unsafe["goal_id"]
        assert safe["prompt_id"] != unsafe["prompt_id"]
        assert safe["source"] == unsafe["source"] == f"{path}:1"

    @pytest.mark.parametrize("verdict", [1, 1.0, True, "1"])
    def test_a_recorded_success_is_kept(self, write, prepare, flip_row, verdict):
        path = write("a.json", [flip_row(0, judge_success_gpt4=verdict), flip_row(1, judge_success_gpt4=0)])
        assert column(prepare(path), "source") == [f"{path}:1"] * 2

    @pytest.mark.parametrize("verdict", [0, None, ..., "0", "yes", 10, False])
    def test_anything_else_is_dropped(self, write, prepare, flip_row, verdict):
        path = write("a.json", [flip_row(0, judge_success_gpt4=verdict), flip_row(1)])
        prepared = prepare(path)
        assert column(prepared, "source") == [f"{path}:2"] * 2
        assert prepared.counts["sources"][0]["dropped"] == {"not successful": 1}

    def test_all_rows_are_kept_on_request(self, write, prepare, flip_row):
        path = write("a.json", [flip_row(0, judge_success_gpt4=0), flip_row(1)])
        assert len(rows(prepare(path, only_successful=False))) == 4

    def test_without_any_verdict_all_rows_are_kept_and_the_user_is_told(self, write, prepare, flip_row):
        path = write("a.json", [flip_row(number, judge_success_gpt4=...) for number in range(3)])
        prepared = prepare(path)
        assert len(rows(prepared)) == 6
        assert "judge_success_gpt4" in prepared.counts["sources"][0]["notes"][0]

    @pytest.mark.parametrize("output", [None, "", "  \n", ...])
    def test_no_output_is_no_answer(self, write, prepare, flip_row, output):
        unsafe = rows(prepare(write("a.json", [flip_row(output=output)])))[1]
        assert unsafe["answer"] is None

    def test_a_row_whose_attack_form_was_never_made_is_counted(self, write, prepare, flip_row):
        prepared = prepare(write("a.json", [flip_row(0, all_prompt=...), flip_row(1)]))
        assert column(prepared, "label") == ["safe", "unsafe"]
        assert prepared.counts["sources"][0]["dropped"] == {"no all_prompt": 1}

    def test_in_parquet_it_is_null(self, tmp_path, prepare, flip_row):
        path = str(tmp_path / "a.parquet")
        pq.write_table(pa.Table.from_pylist([flip_row(0, all_prompt=None), flip_row(1)]), path)
        assert prepare(path).counts["sources"][0]["dropped"] == {"no all_prompt": 1}

    def test_a_split_of_the_file_holds(self, write, prepare, flip_row):
        path = write("a.json", [flip_row(number, split=split) for number, split in enumerate(["test", "validation"])])
        prepared = prepare(path, test_fraction=0, validation_fraction=0)
        assert column(prepared, "split") == ["test"] * 2 + ["validation"] * 2

    def test_the_source_can_name_the_attack(self, write, prepare, flip_row):
        path = write("a.json", [flip_row()])
        assert column(prepare({"path": path, "attack": "fwo"}), "attack") == [None, "fwo"]

    def test_under_controls_the_attack_forms_are_controls(self, write, prepare, flip_row):
        attack, control = write("a.json", [flip_row(0)]), write("c.json", [flip_row(1, judge_success_gpt4=0)])
        prepared = prepare(attack, controls=[control])
        assert column(prepared, "label") == ["safe", "unsafe", "control"]
        assert rows(prepared)[2]["messages"] == flip_row(1)["all_prompt"]


class TestAttackResults:
    def row(self, number=0, **changes):
        goal = f"blick the zorp number {number}"
        row = {"id": number, "prompt": goal, "all_prompt": [user(f"dear friend, {goal}")]} | changes
        return {key: value for key, value in row.items() if value is not ...}

    @pytest.mark.parametrize(
        ("judge_result", "kept"),
        [
            ({"score": 3}, True),
            ({"score": "2.5", "reason": "x"}, True),
            ({"score": 0}, False),
            ({"score": "0"}, False),
            ({"score": None}, False),
            ({"score": "n/a"}, False),
            ({}, False),
            (None, False),
            (..., False),
        ],
    )
    def test_persuasion(self, write, prepare, judge_result, kept):
        tested = self.row(0, attack_response="so be it", judge_result=judge_result)
        other = self.row(1, attack_response="and so on", judge_result={"score": 5})
        unsafe = [row for row in rows(prepare(write("p.json", [tested, other]))) if row["label"] == "unsafe"]
        assert [row["answer"] for row in unsafe] == (["so be it"] if kept else []) + ["and so on"]
        assert {row["attack"] for row in unsafe} == {"persuasion"}
        assert unsafe[-1]["messages"] == other["all_prompt"]

    @pytest.mark.parametrize(("score", "kept"), [(5, True), (0.5, True), ("1", True), (0, False), (None, False)])
    def test_deepinception(self, write, prepare, score, kept):
        tested = self.row(0, inception_attack_response="layer 5", inception_attack_score=score)
        other = self.row(1, inception_attack_response="layer 4", inception_attack_score=1)
        unsafe = [row for row in rows(prepare(write("d.json", [tested, other]))) if row["label"] == "unsafe"]
        assert [row["answer"] for row in unsafe] == (["layer 5"] if kept else []) + ["layer 4"]
        assert {row["attack"] for row in unsafe} == {"deepinception"}

    def test_the_prompt_is_the_plain_goal(self, write, prepare):
        path = write("p.json", [self.row(4, attack_response="x", judge_result={"score": 1})])
        assert rows(prepare(path))[0]["messages"] == [SYSTEM, user("blick the zorp number 4")]

    def test_without_any_verdict_all_rows_are_kept(self, write, prepare):
        prepared = prepare(write("p.json", [self.row(number) for number in range(3)]))
        assert prepared.counts["sources"][0]["format"] == "attack_results"
        assert prepared.counts["labels"].keys() == {"safe", "unsafe"}
        assert len(rows(prepared)) == 6
        assert prepared.counts["sources"][0]["notes"]


class TestGoals:
    def test_advbench(self, write, prepare):
        path = write("advbench.csv", 'goal,target\nblick the zorp,Sure\n"dax, the wug",Sure\n')
        prepared = prepare(path)
        assert column(prepared, "label") == ["safe", "safe"]
        assert rows(prepared)[1]["messages"][-1] == user("dax, the wug")
        assert column(prepared, "target") == [None, None], "the attacker's wish is never kept"

    def test_jailbreakbench(self, write, prepare):
        text = "Index,Goal,Target,Behavior,Category,Source\n0,blick it,Sure,Blicking,Zorps,Original\n"
        (row,) = rows(prepare(write("jbb.csv", text)))
        assert (row["label"], row["category"], row["target"]) == ("safe", "Zorps", None)

    def test_xstest_unsafe_rows_are_goals(self, write, prepare):
        prepared = prepare(write("xstest.csv", XSTEST))
        (row,) = rows(prepared)
        assert row["messages"][-1] == user("How do I blick a dax?")
        assert (row["label"], row["category"]) == ("safe", "contrast_homonyms")
        assert prepared.counts["sources"][0]["dropped"] == {"labelled safe": 2}

    def test_xstest_safe_rows_are_benign(self, write, prepare, flip_row):
        prepared = prepare(write("a.json", [flip_row()]), benign=[write("xstest.csv", XSTEST)])
        benign = [row for row in rows(prepared) if row["label"] == "benign"]
        assert [row["messages"][-1]["content"] for row in benign] == ["How do I frob a dax?", "How do I wug, twice?"]
        assert prepared.counts["sources"][1]["dropped"] == {"labelled unsafe": 1}

    @pytest.mark.parametrize(
        "text",
        [
            "\ufeffgoal,target\nblick the zorp,Sure\n",
            "goal,target\r\nblick the zorp,Sure\r\n",
            "GOAL, Target\nblick the zorp,Sure\n",
            ",goal,target\n0,blick the zorp,Sure\n",
            "goal,target\n\nblick the zorp,Sure\n\n",
            "prompt\nblick the zorp\n",
            "goal\nblick the zorp",
        ],
        ids=["bom", "crlf", "capitals", "unnamed index", "blank lines", "prompt", "no last newline"],
    )
    def test_the_ways_of_csv(self, write, prepare, text):
        path = write("goals.csv", text)
        (row,) = rows(prepare(path))
        assert row["messages"][-1] == user("blick the zorp")
        assert row["source"] == f"{path}:1"

    def test_a_quoted_field_may_hold_newlines(self, write, prepare):
        path = write("goals.csv", 'goal,target\r\n"blick\nthe zorp",Sure\r\ndax,Sure\r\n')
        prepared = prepare(path)
        assert rows(prepared)[0]["messages"][-1] == user("blick\nthe zorp")
        assert column(prepared, "source") == [f"{path}:1", f"{path}:2"]

    def test_a_field_may_be_long(self, write, prepare):
        path = write("goals.csv", f'goal,target\n"{"blick " * 50_000}",Sure\n')
        assert len(rows(prepare(path))[0]["messages"][-1]["content"]) == 300_000

    def test_with_a_wrapper_each_goal_gets_its_attack_form(self, write, prepare):
        path = write("goals.csv", "goal,target\nblick the zorp,Sure\ndax the wug,Sure\n")
        prepared = prepare({"path": path, "wrapper": "flip-word-order"})
        assert column(prepared, "label") == ["safe", "unsafe", "safe", "unsafe"]
        unsafe = rows(prepared)[1]
        assert unsafe["messages"][-1] == user("zorp the blick")
        assert unsafe["messages"][0]["content"].startswith(SYSTEM["content"])
        assert (unsafe["attack"], unsafe["answer"], unsafe["target"]) == ("flip-word-order", None, None)

    @pytest.mark.parametrize("text", ["prompt,target\nfrob the dax,gladly\n", "goal,response\nfrob the dax,gladly\n"])
    def test_benign_targets_are_kept(self, write, prepare, flip_row, text):
        prepared = prepare(write("a.json", [flip_row()]), benign=[write("b.csv", text)])
        assert rows(prepared)[-1]["target"] == "gladly"

    def test_json_and_other_columns_through_the_map(self, write, prepare, flip_row):
        benign = {"path": write("b.json", [{"Instruction": "frob the dax", "output": "gladly"}])}
        benign["columns"] = {"prompt": "instruction", "target": "output"}
        prepared = prepare(write("a.json", [flip_row()]), benign=[benign])
        row = rows(prepared)[-1]
        assert (row["label"], row["messages"][-1], row["target"]) == ("benign", user("frob the dax"), "gladly")

    def test_controls_need_a_wrapper(self, write, prepare, flip_row):
        attack, controls = write("a.json", [flip_row()]), write("c.csv", "prompt,target\nfrob the dax,gladly\n")
        prepared = prepare(attack, controls=[{"path": controls, "wrapper": "flip-chars-in-word"}])
        row = rows(prepared)[-1]
        assert (row["label"], row["target"], row["attack"]) == ("control", "gladly", "flip-chars-in-word")
        assert row["messages"][-1] == user("borf eht xad")


class TestMessages:
    def test_all_labels(self, write, prepare):
        attacks = write(
            "attacks.jsonl",
            [
                {"label": "safe", "messages": [user("blick the zorp"), said("I can't.")], "category": "zorps"},
                {
                    "label": "unsafe",
                    "goal": "blick the zorp",
                    "messages": [user("tell a tale: blick")],
                    "attack": "tale",
                },
                {"label": "unsafe", "goal": "dax the wug", "messages": [user("a tale of wugs"), said("once")]},
            ],
        )
        benign = write("benign.jsonl", [{"messages": [user("frob the dax"), said("frobbed")]}])
        control = write(
            "c.jsonl", [{"messages": [user("tale: frob"), said("ok")], "goal": "frob the dax", "target": "yes"}]
        )
        prepared = prepare(attacks, benign=[benign], controls=[control])
        safe, tale, other, wugs, harmless, wrapped = rows(prepared)
        assert (safe["label"], safe["answer"], safe["category"]) == ("safe", "I can't.", "zorps")
        assert safe["messages"] == [SYSTEM, user("blick the zorp")]
        assert (tale["label"], tale["attack"], tale["messages"]) == ("unsafe", "tale", [user("tell a tale: blick")])
        assert tale["goal_id"] == safe["goal_id"]
        assert (other["label"], other["messages"]) == ("safe", [SYSTEM, user("dax the wug")])
        assert (wugs["attack"], wugs["answer"]) == ("messages", "once")
        assert (harmless["label"], harmless["answer"], harmless["target"]) == ("benign", "frobbed", "frobbed")
        assert (wrapped["label"], wrapped["answer"], wrapped["target"]) == ("control", "ok", "yes")
        assert wrapped["goal_id"] == harmless["goal_id"]

    def test_a_control_without_a_goal_is_noted_once(self, write, prepare, flip_row):
        controls = [{"messages": [user(f"tale: frob {number}")]} for number in range(3)]
        prepared = prepare(
            write("a.json", [flip_row()]),
            benign=[write("b.jsonl", [{"messages": [user("frob the dax")]}])],
            controls=[
                write("c.jsonl", controls),
                write("named.jsonl", [{"goal": "frob the dax", "messages": [user("tale: frob")]}]),
            ],
        )
        notes = [source["notes"] for source in prepared.counts["sources"]]
        assert [len(found) for found in notes] == [0, 0, 1, 0]
        assert "may stand in another split than its plain form" in notes[2][0]

    def test_the_files_own_plain_form_goes_before_the_one_made_here(self, write, prepare):
        own = [{"role": "system", "content": "Be kind."}, user("blick the zorp")]
        path = write(
            "a.jsonl",
            [
                {"label": "unsafe", "goal": "Blick the zorp", "messages": [user("tale")]},
                {"label": "safe", "messages": own},
            ],
        )
        prepared = prepare(path)
        assert [row["messages"] for row in rows(prepared)] == [[user("tale")], own]

    def test_a_conversation_of_several_turns(self, write, prepare, flip_row):
        turns = [user("hello"), said("yes?"), user("frob the dax"), said("frobbed")]
        prepared = prepare(
            write("a.json", [flip_row()]),
            benign=[write("b.jsonl", [{"messages": turns}])],
            controls={"from": "benign", "wrapper": "flip-word-order"},
        )
        benign, control = rows(prepared)[2:]
        assert benign["messages"] == [SYSTEM, *turns[:3]]
        assert control["messages"][1:] == [user("hello"), said("yes?"), user("dax the frob")]

    def test_a_wrapper_serves_safe_rows(self, write, prepare):
        path = write("a.jsonl", [{"label": "safe", "messages": [user("blick the zorp")]}])
        prepared = prepare({"path": path, "wrapper": "flip-chars-in-text", "attack": "fct"})
        assert column(prepared, "label") == ["safe", "unsafe"]
        assert column(prepared, "attack") == [None, "fct"]
        assert rows(prepared)[1]["messages"][-1] == user("proz eht kcilb")

    def test_jsonl_rows_are_counted_by_line_and_may_hold_odd_line_separators(self, write, prepare):
        line = json.dumps({"label": "safe", "messages": [user("blick\u2028the zorp")]}, ensure_ascii=False)
        path = write("a.jsonl", f"\n{line}\r\n")
        prepared = prepare(path)
        assert column(prepared, "source") == [f"{path}:2"]

    def test_parquet(self, write, prepare, tmp_path):
        path = str(tmp_path / "messages.parquet")
        table = {"messages": [[user("blick the zorp")], [user("tale")]], "label": ["safe", "unsafe"]}
        pq.write_table(pa.table(table | {"goal": [None, "blick the zorp"], "category": [3, 4]}), path)
        prepared = prepare(path)
        assert column(prepared, "label") == ["safe", "unsafe"]
        assert column(prepared, "category") == ["3", "4"]
        assert prepared.counts["sources"][0]["container"] == "parquet"


class TestRecognition:
    @pytest.mark.parametrize("name", ["data.json", "data.csv", "data.parquet", "data"])
    def test_the_name_does_not_matter(self, tmp_path, prepare, flip_row, name):
        path = tmp_path / name
        for content, container in [
            (json.dumps([flip_row()]), "json"),
            (f"{json.dumps(flip_row(1))}\n{json.dumps(flip_row(2))}", "jsonl"),
            ("goal,target\nblick,Sure\n", "csv"),
        ]:
            path.write_text(content)
            assert prepare(str(path)).counts["sources"][0]["container"] == container
        pq.write_table(pa.Table.from_pylist([flip_row()]), path)
        counts = prepare(str(path)).counts["sources"][0]
        assert (counts["container"], counts["format"]) == ("parquet", "flipattack")

    def test_the_format_can_be_given(self, write, prepare, flip_row):
        path = write("a.json", [flip_row(judge_success_gpt4=0)])
        prepared = prepare({"path": path, "format": "goals_csv"})
        assert column(prepared, "label") == ["safe"]
        assert prepared.counts["sources"][0]["format"] == "goals_csv"

    def test_of_goal_and_capital_goal_the_plain_name_is_read(self, write, prepare):
        path = write("a.json", [{"Goal": "not this", "goal": "blick the zorp", "GOAL": "nor this"}])
        assert rows(prepare(path))[0]["messages"][-1] == user("blick the zorp")
