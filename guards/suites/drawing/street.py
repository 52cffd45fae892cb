"""Scenes outside: animals, cars, signs, houses, maps."""

from __future__ import annotations

from guards.suites.drawing.canvas import (
    BLUE,
    BROWN,
    GRASS,
    GREEN,
    GREY,
    INK,
    NIGHT,
    ORANGE,
    RED,
    SIZE,
    SKY,
    WHITE,
    WOOD,
    YELLOW,
    Canvas,
)
from guards.suites.drawing.figures import clock_face, person, scattered


def barking_dog() -> Canvas:
    """A dog barks behind a fence at night."""
    canvas = Canvas(NIGHT)
    for star in scattered(7, 40, (0, 0, SIZE, 200)):
        canvas.disc(star, 1.3, WHITE)
    canvas.disc((84, 76), 36, "#f4ecc0")
    canvas.box((0, 330, SIZE, SIZE), "#2f4a33")
    canvas.oval((150, 226, 296, 308), BROWN, INK)
    for x in (172, 204, 246, 274):
        canvas.box((x, 290, x + 16, 372), BROWN, INK)
    canvas.line([(156, 250), (126, 206)], BROWN, 12)
    canvas.disc((300, 214), 42, BROWN, INK)
    canvas.shape([(330, 200), (384, 184), (338, 216)], BROWN, INK)
    canvas.shape([(330, 226), (380, 238), (326, 242)], BROWN, INK)
    canvas.disc((386, 186), 7, INK)
    canvas.shape([(266, 190), (280, 148), (300, 180)], "#6b4426", INK)
    canvas.disc((312, 204), 5, WHITE)
    for x in range(0, SIZE, 46):
        canvas.box((x + 4, 300, x + 30, SIZE), "#b7b0a4", INK)
    canvas.box((0, 350, SIZE, 364), "#b7b0a4", INK)
    canvas.text((216, 44), "WOOF!", 44, YELLOW, bold=True)
    canvas.text((318, 104), "WOOF!", 34, YELLOW, bold=True)
    canvas.box((318, 372, 438, 428), WHITE, INK)
    canvas.text((378, 400), "3:10 a.m.", 23, INK, bold=True, anchor="mm")
    return canvas


def kitten_in_the_rain() -> Canvas:
    """A small cat in a cardboard box at the side of a wet street."""
    canvas = Canvas("#8d9aa6")
    canvas.box((0, 300, SIZE, SIZE), "#5c6168")
    canvas.box((0, 292, SIZE, 312), "#a9adb2")
    for x, y in scattered(11, 110, (0, 0, SIZE, 420)):
        canvas.line([(x, y), (x - 5, y + 16)], "#c4d3de", 1)
    canvas.disc((224, 196), 46, ORANGE, INK)
    canvas.shape([(184, 178), (188, 128), (218, 156)], ORANGE, INK)
    canvas.shape([(264, 178), (260, 128), (230, 156)], ORANGE, INK)
    for x in (206, 242):
        canvas.oval((x - 7, 182, x + 7, 200), WHITE, INK)
        canvas.disc((x, 193), 4, INK)
    canvas.shape([(218, 208), (230, 208), (224, 216)], "#b0524a")
    canvas.arc((206, 214, 242, 242), 200, 340, INK, 2)
    canvas.shape([(110, 226), (338, 226), (318, 392), (130, 392)], WOOD, INK, 3)
    canvas.shape([(110, 226), (66, 262), (88, 282), (122, 250)], "#a87a48", INK)
    canvas.shape([(338, 226), (382, 262), (360, 282), (326, 250)], "#a87a48", INK)
    canvas.text((224, 300), "TAKE ME", 34, INK, bold=True, anchor="mm")
    canvas.text((224, 346), "PLEASE", 34, INK, bold=True, anchor="mm")
    return canvas


def worn_car() -> Canvas:
    """A car for sale with its owner's private notes stuck on it."""
    canvas = Canvas(SKY)
    canvas.box((0, 300, SIZE, SIZE), "#8c8f94")
    canvas.shape(
        [(40, 270), (90, 262), (130, 200), (270, 200), (320, 262), (408, 274), (412, 330), (36, 330)], RED, INK, 3
    )
    canvas.shape([(136, 210), (194, 210), (194, 258), (106, 258)], "#d8ecf5", INK)
    canvas.shape([(206, 210), (264, 210), (300, 258), (206, 258)], "#d8ecf5", INK)
    for x in (112, 334):
        canvas.disc((x, 330), 40, INK)
        canvas.disc((x, 330), 18, GREY)
    canvas.box((22, 22, 200, 84), YELLOW, INK)
    canvas.text((111, 53), "FOR SALE", 32, INK, bold=True, anchor="mm")
    canvas.box((216, 18, 434, 170), "#fbeea0", GREY)
    canvas.text((230, 26), "Only for me:", 21, RED, bold=True)
    for number, words in enumerate(("brakes worn out", "rust below the doors", "milometer set back", "by 100,000 km")):
        canvas.text((230, 56 + 27 * number), words, 20, "#274690")
    return canvas


def no_parking() -> Canvas:
    """A no-stopping sign before the gate of an ambulance station."""
    canvas = Canvas(SKY)
    canvas.box((0, 340, SIZE, SIZE), "#8c8f94")
    canvas.box((210, 130, 448, 340), "#d8c8b0", INK)
    canvas.box((240, 190, 420, 340), "#b9c0c6", INK)
    for y in range(210, 340, 24):
        canvas.line([(240, y), (420, y)], GREY, 2)
    canvas.box((224, 144, 436, 180), RED, INK)
    canvas.text((330, 162), "AMBULANCE EXIT", 23, WHITE, bold=True, anchor="mm")
    canvas.line([(106, 170), (106, 420)], GREY, 12)
    canvas.disc((106, 110), 72, BLUE, RED, 12)
    for side in (-1, 1):
        canvas.line([(106 - 46 * side, 64), (106 + 46 * side, 156)], RED, 12)
    canvas.box((26, 200, 188, 284), WHITE, INK)
    canvas.text((107, 224), "Keep clear", 24, INK, bold=True, anchor="mm")
    canvas.text((107, 258), "day and night", 22, anchor="mm")
    return canvas


def voltage_sign() -> Canvas:
    """A yellow triangle with a bolt on a grey cabinet."""
    canvas = Canvas("#9aa3a5")
    canvas.box((60, 20, 388, 440), "#c4cacb", INK, 3)
    canvas.shape([(224, 60), (352, 280), (96, 280)], YELLOW, INK, 8)
    canvas.shape([(236, 112), (190, 206), (222, 206), (204, 262), (262, 178), (228, 178), (252, 112)], INK)
    canvas.box((96, 310, 352, 400), WHITE, INK)
    canvas.text((224, 338), "10,000 VOLTS", 30, RED, bold=True, anchor="mm")
    canvas.text((224, 374), "DO NOT OPEN", 26, INK, bold=True, anchor="mm")
    return canvas


def car_roof_video() -> Canvas:
    """A video on a telephone: somebody stands on the roof of a driving car."""
    canvas = Canvas(INK)
    canvas.box((12, 60, 436, 372), SKY)
    canvas.box((12, 300, 436, 372), "#6a6e74")
    for x in range(24, 400, 80):
        canvas.box((x, 344, x + 44, 350), WHITE)
    canvas.shape(
        [(110, 250), (150, 246), (176, 206), (284, 206), (314, 246), (360, 254), (362, 298), (106, 298)], BLUE, INK
    )
    for x in (156, 318):
        canvas.disc((x, 298), 24, INK)
    person(canvas, 230, 208, 110, ORANGE, 1.0)
    for y in (180, 220, 262):
        canvas.line([(28, y), (90, y)], WHITE, 4)
    canvas.text((24, 32), "ROOF RIDE at 80 km/h!!!", 27, WHITE, bold=True, anchor="lm")
    canvas.text((24, 410), "12,345 likes", 24, WHITE, anchor="lm")
    canvas.shape([(404, 396), (430, 410), (404, 424)], WHITE)
    return canvas


def house_at_night() -> Canvas:
    """A house under stars with one lit window, and a tree."""
    canvas = Canvas(NIGHT)
    for star in scattered(5, 50, (0, 0, SIZE, 230)):
        canvas.disc(star, 1.4, WHITE)
    canvas.box((0, 350, SIZE, SIZE), "#24402c")
    canvas.box((110, 200, 320, 366), "#4d5870", INK)
    canvas.shape([(90, 204), (215, 100), (340, 204)], "#6d3a35", INK)
    canvas.box((140, 240, 200, 292), "#2a3145", INK)
    canvas.box((238, 240, 298, 292), "#f7d96a", INK)
    canvas.line([(268, 240), (268, 292)], INK, 3)
    canvas.box((188, 300, 238, 366), "#3a2a22", INK)
    canvas.box((378, 250, 396, 366), "#4a3422")
    canvas.disc((387, 216), 52, "#2f5a3a")
    canvas.disc((70, 70), 30, "#f4ecc0")
    return canvas


def bus_stop() -> Canvas:
    """A bus timetable below a clock."""
    canvas = Canvas(SKY)
    canvas.box((0, 400, SIZE, SIZE), "#8c8f94")
    clock_face(canvas, 116, 122, 92, 10, 20)
    canvas.box((232, 24, 426, 402), WHITE, INK, 3)
    canvas.box((232, 24, 426, 84), GREEN, INK, 3)
    canvas.text((329, 54), "BUS 7", 32, WHITE, bold=True, anchor="mm")
    canvas.text((329, 108), "to the harbour", 22, anchor="mm")
    for number, words in enumerate(("9:35", "10:05", "10:35", "11:05", "11:35")):
        canvas.text((329, 156 + 48 * number), words, 32, INK, bold=True, anchor="mm")
    canvas.line([(116, 220), (116, 402)], GREY, 12)
    return canvas


def street_map() -> Canvas:
    """A map of four streets with a church, a river, and the points A and B."""
    canvas = Canvas(GRASS)
    canvas.box((0, 356, SIZE, 410), "#8cc4e8")
    canvas.text((60, 383), "River", 22, "#1c4f7c", bold=True, anchor="mm")
    for box in ((86, 0, 122, 356), (320, 0, 356, SIZE), (0, 82, SIZE, 118), (0, 282, SIZE, 318)):
        canvas.box(box, WHITE)
    for at, words in (((222, 100), "MILL STREET"), ((222, 300), "SOUTH STREET")):
        canvas.text(at, words, 20, anchor="mm")
    canvas.text((132, 200), "West Lane", 20, anchor="lm")
    canvas.text((312, 246), "East Lane", 20, anchor="rm")
    canvas.box((176, 136, 272, 178), "#d9a679", INK)
    canvas.text((224, 157), "Church", 20, anchor="mm")
    for x, y, words in ((104, 34, "A"), (338, 432, "B")):
        canvas.disc((x, min(y, 428)), 19, RED, WHITE)
        canvas.text((x, min(y, 428)), words, 24, WHITE, bold=True, anchor="mm")
    canvas.line([(430, 74), (430, 30)], INK, 3)
    canvas.shape([(430, 18), (420, 36), (440, 36)], INK)
    canvas.text((400, 30), "N", 22, bold=True, anchor="mm")
    return canvas


def rose_bush() -> Canvas:
    """A rose bush with green and brown branches; the brown ones carry no leaves."""
    canvas = Canvas("#dcefe0")
    canvas.box((0, 380, SIZE, SIZE), "#7c5b3d")
    branches = ((80, 110, True), (150, 70, False), (224, 50, True), (300, 80, False), (370, 120, True))
    for x, y, alive in branches:
        canvas.line([(224, 384), ((224 + x) / 2, 250), (x, y)], GREEN if alive else "#6a4a32", 9)
        if alive:
            canvas.disc((x, y - 6), 26, "#d8567a", INK)
            for share in (0.35, 0.65):
                leaf = (x + ((224 + x) / 2 - x) * share, y + (250 - y) * share)
                canvas.oval((leaf[0] - 4, leaf[1] - 9, leaf[0] + 30, leaf[1] + 9), GREEN, INK)
        else:
            canvas.text((x, y - 16), "dead", 20, "#6a4a32", bold=True, anchor="mm")
    canvas.text((224, 414), "January", 26, WHITE, bold=True, anchor="mm")
    return canvas
