"""Worked examples of the project's own to go before a maths problem, where a suite names none. (problem, solution), easy ones first.

Published figures rest on other examples; whoever compares with them names those (`examples`).
"""

from __future__ import annotations

GRADE_SCHOOL: tuple[tuple[str, str], ...] = (
    (
        "A baker puts 6 rolls into each bag and fills 9 bags. How many rolls does the baker need?",
        "Each of the 9 bags holds 6 rolls. Together they hold 9 * 6 = 54 rolls. The answer is \\boxed{54}.",
    ),
    (
        "Nadia had 75 stamps. She gave 18 to her brother and bought 23 new ones. How many stamps does she have now?",
        "After the gift Nadia has 75 - 18 = 57 stamps. With the new ones she has 57 + 23 = 80. The answer is \\boxed{80}.",
    ),
    (
        "A ticket for the ferry costs $14 and children pay half. What do 2 adults and 3 children pay together?",
        (
            "The adults pay 2 * 14 = 28 dollars. A child pays 14 / 2 = 7 dollars, so 3 children pay 3 * 7 = 21 dollars. "
            "Together they pay 28 + 21 = 49 dollars. The answer is \\boxed{49}."
        ),
    ),
    (
        "A tank holds 240 litres. It is one third full, and a pump adds 8 litres a minute. After how many minutes is it full?",
        (
            "One third of 240 litres is 80 litres, so 240 - 80 = 160 litres are missing. At 8 litres a minute that takes "
            "160 / 8 = 20 minutes. The answer is \\boxed{20}."
        ),
    ),
    (
        "Omar reads 30 pages a day from Monday to Friday and 45 pages on each day of the weekend. How many pages are that in 2 weeks?",
        (
            "The five weekdays make 5 * 30 = 150 pages and the weekend 2 * 45 = 90 pages. A week has 150 + 90 = 240 pages, "
            "two weeks have 2 * 240 = 480. The answer is \\boxed{480}."
        ),
    ),
    (
        "A shop lowers the price of an $80 coat by 25 percent and then takes another $5 off. What does the coat cost?",
        (
            "25 percent of 80 dollars are 80 * 0.25 = 20 dollars, which leaves 80 - 20 = 60 dollars. Another 5 off makes "
            "60 - 5 = 55 dollars. The answer is \\boxed{55}."
        ),
    ),
    (
        (
            "Three friends share the cost of a boat equally. One of them also pays $12 for lunch and spends $52 in all. "
            "What does the boat cost?"
        ),
        (
            "Without lunch that friend spends 52 - 12 = 40 dollars, which is a third of the boat. The boat costs "
            "3 * 40 = 120 dollars. The answer is \\boxed{120}."
        ),
    ),
    (
        "Iris is 4 years older than Jon, and Jon is twice as old as Kim. Together they are 44. How old is Iris?",
        (
            "Let Kim be k years old. Then Jon is 2k and Iris 2k + 4, so k + 2k + 2k + 4 = 44 and 5k = 40. Kim is 8, Jon is 16 "
            "and Iris is 16 + 4 = 20. The answer is \\boxed{20}."
        ),
    ),
)

COMPETITION: tuple[tuple[str, str], ...] = (
    (
        "Solve $3x - 7 = 2(x + 5)$ for $x$.",
        (
            "Multiplying out, $3x - 7 = 2x + 10$. Subtracting $2x$ and adding $7$ on both sides gives $x = 17$. "
            "The answer is $\\boxed{17}$."
        ),
    ),
    (
        "What is the sum of the squares of the roots of $x^2 - 6x + 4 = 0$?",
        (
            "By Vieta's formulas the roots $r$ and $s$ have $r + s = 6$ and $rs = 4$. So "
            "$r^2 + s^2 = (r + s)^2 - 2rs = 36 - 8 = 28$. The answer is $\\boxed{28}$."
        ),
    ),
    (
        "Two fair dice are rolled. What is the probability that their product is odd? Give a common fraction.",
        (
            "The product is odd exactly when both numbers are. Each is odd with probability $\\frac{1}{2}$, and the dice are "
            "independent, so the probability is $\\frac{1}{2} \\cdot \\frac{1}{2} = \\frac{1}{4}$. The answer is $\\boxed{\\frac{1}{4}}$."
        ),
    ),
    (
        "A circle has the equation $x^2 + y^2 - 4x + 10y = 20$. What is its area?",
        (
            "Completing the squares, $(x - 2)^2 + (y + 5)^2 = 20 + 4 + 25 = 49$. The radius is $7$, so the area is "
            "$\\pi \\cdot 7^2 = 49\\pi$. The answer is $\\boxed{49\\pi}$."
        ),
    ),
)
