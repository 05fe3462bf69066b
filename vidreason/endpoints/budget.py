"""Limit of the requests that are paid for, counted over all starts and processes of a run."""

from vidreason.endpoints.cache import ReplyCache
from vidreason.endpoints.errors import BudgetSpentError
from vidreason.endpoints.rate_limits import RateLimits


class RequestBudget:
    """Number of requests sent to a model, in the file of its replies, and their limit.

    A request is counted before it is sent, so that a process that is killed meanwhile leaves no
    unpaid one uncounted, and each try of it counts. One that no model has worked on is given back.

    Args:
        cache: The file of the replies.
        model_id: Names the model, as in the cache.
        limit: Most requests; None counts them only.
        field: Name of the limit in the configuration, for messages.
        rates: How fast requests may be sent; None for as fast as they come.
    """

    def __init__(
        self,
        cache: ReplyCache,
        model_id: str,
        limit: int | None,
        field: str,
        rates: RateLimits | None = None,
    ) -> None:
        self.rates = rates
        self._cache = cache
        self._model_id = model_id
        self._limit = limit
        self._field = field
        with cache.connection() as connection:
            connection.execute(
                "CREATE TABLE IF NOT EXISTS spent (model TEXT PRIMARY KEY, requests INTEGER)"
            )
            connection.execute("INSERT OR IGNORE INTO spent VALUES (?, 0)", (model_id,))

    @property
    def num_spent(self) -> int:
        """Requests that were paid for, those on their way included."""
        with self._cache.connection() as connection:
            query = "SELECT requests FROM spent WHERE model = ?"
            return int(connection.execute(query, (self._model_id,)).fetchone()[0])

    @property
    def num_left(self) -> int | None:
        """Requests that may still be paid for; None without a limit."""
        return None if self._limit is None else max(self._limit - self.num_spent, 0)

    def spend(self, count: int = 1) -> None:
        """Count requests that are about to be sent; all of them, or none.

        Raises:
            BudgetSpentError: They would be too many.
        """
        with self._cache.connection() as connection:
            # One statement, so that no two processes take the last one both.
            counted = connection.execute(
                "UPDATE spent SET requests = requests + ? "
                "WHERE model = ? AND (? IS NULL OR requests + ? <= ?)",
                (count, self._model_id, self._limit, count, self._limit),
            )
        # No row was changed: with these the limit would be passed.
        if not counted.rowcount:
            raise BudgetSpentError(
                f"{self._field}={self._limit} requests are spent ({self._cache.path} counts them); "
                "the replies so far are kept: raise the limit and start again to go on from here"
            )

    def give_back(self, count: int = 1) -> None:
        """Take back requests that no model has worked on."""
        with self._cache.connection() as connection:
            connection.execute(
                "UPDATE spent SET requests = requests - ? WHERE model = ?", (count, self._model_id)
            )
