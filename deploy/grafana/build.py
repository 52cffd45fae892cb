"""Dashboards as code: ``python -m deploy.grafana.build`` writes ``deploy/grafana/dashboards/*.json``.

Change this file and run it; a test holds that the JSON is what comes out of it, and that every query finds data in a
real Prometheus that scrapes a real service.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from grafana_foundation_sdk.builders import dashboard
from grafana_foundation_sdk.cog.encoder import JSONEncoder

from deploy.grafana.panels import AT, OF_ADAPTER, choice, graph, listing, new_dashboard, number

FOLDER = Path(__file__).parent / "dashboards"

_RATE = "[$__rate_interval]"


def fleet() -> dashboard.Dashboard:
    """What is in service, and whether every server holds exactly that."""
    board = new_dashboard("alignwatch-fleet", "Alignwatch: fleet", "What is in service, and what every server holds")
    for state, told in (
        ("promoted", "Adapters in service"),
        ("pending", "Adapters that are not reviewed yet, or are looked at in observe mode"),
        ("quarantined", "Adapters that no server can reach"),
    ):
        board.with_panel(number(state.capitalize(), told, "none", f'sum(alignwatch_adapters{{{AT},state="{state}"}})'))
    return (
        board.with_panel(
            number("Servers up", "Share of the servers that answered when they were last asked", "percentunit",
                   f"avg(alignwatch_fleet_replica_up{{{AT}}})")
        )
        .with_panel(
            number("Servers that differ", "Servers that do not hold what was approved, or could not be asked", "none",
                   f"sum(alignwatch_fleet_differs{{{AT}}})", red_from=1)
        )
        .with_panel(
            number("Withdrawing", "Withdrawn adapters that are not proved to be gone from some server", "none",
                   f"sum(alignwatch_withdrawing{{{AT}}})", red_from=1)
        )
        .with_panel(
            graph("Adapters by state", "Everything the ledger knows, by where it is now", "none",
                  (f"sum by (state) (alignwatch_adapters{{{AT}}})", "{{state}}"))
        )
        .with_panel(
            graph("Placements", "Adapters that were put in their place, in each interval", "none",
                  (f"sum by (place) (increase(alignwatch_placements_total{{{AT}}}{_RATE}))", "{{place}}"))
        )
        .with_panel(
            graph("Adapters on servers", "By state, summed over all servers", "none",
                  (f"sum by (state) (alignwatch_fleet_servings{{{AT}}})", "{{state}}"))
        )
        .with_panel(
            graph("Changes on servers", "Changes of an adapter's state on a server, in each interval", "none",
                  (f"sum by (state) (increase(alignwatch_fleet_transitions_total{{{AT}}}{_RATE}))", "{{state}}"))
        )
        .with_panel(
            graph("Servers", "1 where the server answered when it was last asked", "bool_on_off",
                  (f"alignwatch_fleet_replica_up{{{AT}}}", "{{replica}}"), width=8)
        )
        .with_panel(
            graph("Last asked", "How long ago each server was asked what it holds", "s",
                  (f"time() - alignwatch_fleet_checked_timestamp_seconds{{{AT}}}", "{{replica}}"), width=8)
        )
        .with_panel(
            graph("Withdrawn, perhaps in memory", "Withdrawn adapters whose weights a server may still hold", "none",
                  (f"alignwatch_withdrawn_resident{{{AT}}}", "{{replica}}"), width=8)
        )
        .with_panel(
            listing("Adapters with series", "In service or pending, with digest, parent, and a person's word",
                    f"alignwatch_adapter_info{{{AT}}}", ("job",))
        )
    )  # fmt: skip


def alignment() -> dashboard.Dashboard:
    """How each adapter behaves beside its base, text beside pictures."""
    of, by = OF_ADAPTER, "{{adapter}} {{modality}}"
    adapter = 'alignwatch_misalignment_rise_ratio{job=~"$job",instance=~"$instance"}'
    board = new_dashboard(
        "alignwatch-alignment",
        "Alignwatch: alignment",
        "How adapters in service or pending behave beside their base, as last reviewed; text and pictures apart",
    )
    board.with_variable(choice("adapter", "Adapter", "In service or pending", adapter))
    board.with_variable(choice("modality", "Modality", "Text or image, never pooled", adapter))
    board.with_panel(
        graph("Rise of misaligned answers", "Paired with the base's answers to the same questions, with its 95 % "
              "interval: newly misaligned less no longer misaligned", "percentunit",
              (f'alignwatch_misalignment_rise_ratio{{{of},category=""}}', by),
              (f'alignwatch_misalignment_rise_low_ratio{{{of},category=""}}', f"{by}, low"),
              (f'alignwatch_misalignment_rise_high_ratio{{{of},category=""}}', f"{by}, high"), width=24)
    )  # fmt: skip
    return (
        board.with_panel(
            graph("Drift along the lineage", "The rise less the smallest one among the adapter and its ancestors",
                  "percentunit", (f"alignwatch_misalignment_drift_ratio{{{of}}}", by))
        )
        .with_panel(
            graph("Modality gap", "The rise in questions with a picture less the rise in text", "percentunit",
                  (f'alignwatch_modality_gap_ratio{{{AT},adapter=~"$adapter"}}', "{{adapter}}"))
        )
        .with_panel(
            graph("Misaligned answers, adapter and base", "Share of all scored answers", "percentunit",
                  (f"alignwatch_misalignment_ratio{{{of}}}", f"{by}, {{{{model}}}}"))
        )
        .with_panel(
            graph("Rise by category", "Of few questions each: for reading, not for deciding", "percentunit",
                  (f'alignwatch_misalignment_rise_ratio{{{of},category!=""}}', f"{by} {{{{category}}}}"))
        )
        .with_panel(
            graph("Alignment score, adapter and base", "Mean of the judge's scores, 0 to 100, higher is better", "none",
                  (f"alignwatch_alignment_score{{{of}}}", f"{by}, {{{{model}}}}"), width=8)
        )
        .with_panel(
            graph("Coherence score, adapter and base", "Mean of the judge's scores, 0 to 100, higher is better", "none",
                  (f"alignwatch_coherence_score{{{of}}}", f"{by}, {{{{model}}}}"), width=8)
        )
        .with_panel(
            graph("Relevance score, adapter and base", "Mean of the judge's scores, 0 to 100, higher is better", "none",
                  (f"alignwatch_relevance_score{{{of}}}", f"{by}, {{{{model}}}}"), width=8)
        )
        .with_panel(
            graph("Rise of incoherent answers", "An adapter that rambles is not aligned, it is broken", "percentunit",
                  (f"alignwatch_incoherence_rise_ratio{{{of}}}", by), width=8)
        )
        .with_panel(
            graph("Shift within the harmful subspace", "In standard deviations of the base per dimension; only with "
                  "a Reference", "none", (f"alignwatch_subspace_projection_ratio{{{of}}}", by), width=8)
        )
        .with_panel(
            graph("Weights along harmful directions", "Share of the energy written to the residual stream; only with a "
                  "Reference", "percentunit",
                  (f'alignwatch_weight_screen_ratio{{{AT},adapter=~"$adapter"}}', "{{adapter}}"), width=8)
        )
        .with_panel(
            graph("Pairs of answers", "What a rise rests on; few give wide intervals", "none",
                  (f'alignwatch_misalignment_rise_prompts{{{of},category=""}}', by), width=8)
        )
    )  # fmt: skip


def pipeline() -> dashboard.Dashboard:
    """Whether work comes in, gets done, and can be relied on."""
    board = new_dashboard(
        "alignwatch-pipeline", "Alignwatch: pipeline", "Whether adapters are noticed, reviewed and recorded"
    )
    _vital_signs(board)
    _reviews(board)
    _judge(board)
    return board


def _vital_signs(board: dashboard.Dashboard) -> None:
    for panel in (
        number("Monitor", "Which Alignwatch runs", "none", f"alignwatch_build_info{{{AT}}}", legend="{{version}}"),
        number("Last sign of life", "Of the worker", "s",
               f"time() - max(alignwatch_heartbeat_timestamp_seconds{{{AT}}})", red_from=1800),
        number("Last review", "How long ago one was finished", "s",
               f"time() - max(alignwatch_last_review_timestamp_seconds{{{AT}}})"),
        number("Ledger writable", "1 where a row could be written durably", "bool_yes_no",
               f"min(alignwatch_ledger_writable{{{AT}}})"),
        number("Audit trail whole", "1 where every link of the chain held when last recomputed", "bool_yes_no",
               f"min(alignwatch_audit_chain_whole{{{AT}}})"),
        number("Blind spots", "Parts of the scrape that are missing, and adapters without series", "none",
               f"sum(alignwatch_scrape_errors{{{AT}}}) + sum(alignwatch_adapters_without_series{{{AT}}})", red_from=1),
    ):  # fmt: skip
        board.with_panel(panel)


def _reviews(board: dashboard.Dashboard) -> None:
    slowest = f"sum by (le, stage) (rate(alignwatch_review_duration_seconds_bucket{{{AT}}}{_RATE}))"
    for panel in (
        graph("Queue", "Reviews to be done; dead ones wait for a person", "none",
              (f"sum by (state) (alignwatch_queue_depth{{{AT}}})", "{{state}}")),
        graph("Oldest waiting review", "Tries and pauses included", "s",
              (f"max(alignwatch_queue_oldest_age_seconds{{{AT}}})", "oldest")),
        graph("Reviews by verdict", "Finished in each interval", "none",
              (f"sum by (verdict) (increase(alignwatch_reviews_total{{{AT}}}{_RATE}))", "{{verdict}}")),
        graph("Failed attempts", "Retryable ones are tried again; permanent ones and faults need a person", "none",
              (f"sum by (kind) (increase(alignwatch_review_failures_total{{{AT}}}{_RATE}))", "{{kind}}")),
        graph("Time a stage takes", "Nine of ten are done within this", "s",
              (f"histogram_quantile(0.9, {slowest})", "{{stage}}")),
        graph("Remedies", "Tried, and those that could not be applied, in each interval", "none",
              (f"sum by (remedy) (increase(alignwatch_remedies_total{{{AT}}}{_RATE}))", "{{remedy}}"),
              (f"sum by (remedy) (increase(alignwatch_remedy_failures_total{{{AT}}}{_RATE}))", "{{remedy}} failed"),
              (f"sum(increase(alignwatch_quarantined_after_remedy_total{{{AT}}}{_RATE}))", "all in vain")),
        graph("Sources", "How long ago each was looked at without trouble, and how long the slowest arrival there has "
              "been waiting to settle", "s",
              (f"time() - alignwatch_source_last_success_timestamp_seconds{{{AT}}}", "{{source}}"),
              (f"alignwatch_source_longest_wait_seconds{{{AT}}}", "{{source}}, slowest arrival")),
        graph("Arrivals", "Those that are not settled yet, and those refused in each interval", "none",
              (f"alignwatch_source_waiting{{{AT}}}", "{{source}} waiting"),
              (f"increase(alignwatch_source_refused_total{{{AT}}}{_RATE})", "{{source}} refused")),
    ):  # fmt: skip
        board.with_panel(panel)


def _judge(board: dashboard.Dashboard) -> None:
    failures, requests = (
        f"sum(rate(alignwatch_judge_{name}_total{{{AT}}}{_RATE}))" for name in ("request_failures", "requests")
    )
    unscored, answers = (
        f"sum(increase(alignwatch_judge_{name}_total{{{AT}}}[6h]))" for name in ("unscored", "answers")
    )
    for panel in (
        graph("Requests to the judge", "A second, failed ones included", "reqps",
              (requests, "requests"), (failures, "failures"), width=8),
        graph("Unscored answers", "Share of the answers of the last six hours that got no usable score", "percentunit",
              (f"{unscored} / {answers}", "unscored"), width=8),
        graph("Tokens of the judge", "A second, as its server counts them", "none",
              (f"sum by (direction) (rate(alignwatch_judge_tokens_total{{{AT}}}{_RATE}))", "{{direction}}"), width=8),
        graph("Judge moved", "1 where a judge in use last differed from itself by more than the policy tolerates",
              "bool_yes_no", (f"alignwatch_judge_moved{{{AT}}}", "{{judge}}"), width=8),
        graph("How far the judge moved", "Points of 100 by which it judges its frozen transcripts otherwise than when "
              "they were frozen", "none", (f"alignwatch_judge_shift_points{{{AT}}}", "{{judge}}"), width=8),
        graph("Judge last looked at", "How long ago it judged its frozen transcripts", "s",
              (f"time() - alignwatch_judge_checked_timestamp_seconds{{{AT}}}", "{{judge}}"), width=8),
    ):  # fmt: skip
        board.with_panel(panel)


def rendered() -> Mapping[str, str]:
    """Return the JSON of every dashboard, by the name of its file."""
    made = {"fleet": fleet(), "alignment": alignment(), "pipeline": pipeline()}
    return {
        f"{name}.json": json.dumps(_numbered(board), cls=JSONEncoder, indent=1, sort_keys=True) + "\n"
        for name, board in made.items()
    }


def _numbered(board: dashboard.Dashboard) -> object:
    built = board.build()
    for number_, panel in enumerate(built.panels or [], start=1):
        panel.id_val = number_
    return built


def main() -> None:
    """Write every dashboard."""
    for name, text in rendered().items():
        (FOLDER / name).write_text(text, encoding="utf-8")
        print(FOLDER / name)


if __name__ == "__main__":
    main()
