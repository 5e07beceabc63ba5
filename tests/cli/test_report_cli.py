"""The report, the page of a backtest and a session's picture, as they are typed."""

from terminal import Person


def lived(person: Person, first: str = "2024-09-16") -> Person:
    """A book of synthetic sessions up to the end of September."""
    assert 0 == person.types(f"run --from {first} --to 2024-09-30").exit_code
    return person


def test_report_tells_the_books_figures_as_the_views_have_them(person: Person):
    told = lived(person, "2024-07-01").types("report --json").document
    [(net, trades)] = person.sql("SELECT coalesce(sum(net_pnl), 0.0), count(*) FROM trades")
    [(value,)] = person.sql("SELECT value FROM equity ORDER BY session DESC LIMIT 1")

    assert (trades, round(net, 6)) == (told["metrics"]["trades"], round(told["metrics"]["total_pnl"], 6))
    assert ("2024-09-30", value) == tuple(told["equity"][-1].values())
    assert {"decided": 64} == told["sessions"]


def test_report_is_a_page_of_text_that_marks_synthetic_data(person: Person):
    typed = lived(person).types("report --period month")

    assert (0, True, True) == (typed.exit_code, "SYNTHETIC data" in typed.out, "No investment advice" in typed.out)


def test_report_reads_only(person: Person):
    """Not a byte of the database changes, and no file but the page comes."""
    before = lived(person).database.read_bytes()
    files = {path.name for path in person.folder.rglob("*")}
    typed = person.types("report --html report.html")

    assert (0, "written: report.html\n") == (typed.exit_code, typed.err)
    assert (before, files | {"report.html"}) == (
        person.database.read_bytes(),
        {path.name for path in person.folder.rglob("*")},
    )


def test_report_before_the_first_settled_session_says_what_there_is_instead(person: Person):
    typed = person.types("report --json")

    assert (2, True) == (typed.exit_code, "backtest --html" in typed.error["hint"])


def test_a_page_that_cannot_be_written_is_refused_with_a_cure(person: Person):
    typed = person.types("backtest --from 2024-01-02 --to 2024-03-28 --html absent/page.html --json")

    assert (2, "settings") == (typed.exit_code, typed.error["code"])
    assert "absent/page.html cannot be written" in typed.error["message"]


def test_backtest_writes_the_same_page_beside_its_json(person: Person):
    typed = person.types("backtest --from 2024-01-02 --to 2024-06-28 --html page.html --json")
    page = (person.folder / "page.html").read_text()

    assert typed.document["synthetic"]
    assert "SYNTHETIC data." in page
    assert (
        f'<span class="value ">{typed.document["metrics"]["wins"]} of {typed.document["metrics"]["trades"]}</span>'
        in page
    )


def test_explain_draws_the_session(person: Person):
    typed = person.types("explain --date 2024-11-05 --png session.png --json")

    assert ("2024-11-05", "written: session.png\n") == (typed.document["session"], typed.err)
    assert b"\x89PNG" == (person.folder / "session.png").read_bytes()[:4]
