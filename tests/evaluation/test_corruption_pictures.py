"""One photograph under every kind at severity 3, small: the picture as it was when its parts were checked.

The mean step from a pixel to its right and to its lower neighbour, and means of 7 x 7 squares of 32 pixels,
all colours together, of 255. The numbers are those of

    python -c "from tests.evaluation.test_corruption_pictures import table; print(table())"

with numpy 2.4, torch 2.15 and Pillow 13 on a CPU. Whoever changes pixels on purpose raises VERSION in
corruption/views.py and copies the new ones. They pin what `test_corruption_references.py` holds against the
released code.
"""

import numpy as np
import pytest
from jaxtyping import Float
from PIL import Image

from patchclip.data.benchmarks import load_benchmark
from patchclip.evaluation.corruption.views import KINDS, VERSION, Corruption

SEVERITY, INDEX = 3, 5

PICTURES: dict[str, tuple[float, float, str]] = {
    "gaussian_noise": (
        27.01,
        26.56,
        """
200 211 127  77 149 178 182
194 183 156 109 188 218 209
197 190 178 114 211 226 216
202 197 193 107 202 199 197
172 186 182 123 198 210 211
188 186 179 130 210 186 191
205 203 188 113 191 191 209""",
    ),
    "shot_noise": (
        32.96,
        32.50,
        """
194 204 125  77 147 171 175
188 179 153 109 182 210 201
190 187 174 111 202 216 209
196 192 188 107 197 194 190
169 180 177 123 190 204 203
183 181 175 130 202 182 186
199 197 182 113 184 189 203""",
    ),
    "impulse_noise": (
        22.32,
        21.63,
        """
197 210 129  82 148 177 182
191 179 153 110 187 221 210
194 188 176 114 210 226 215
198 195 192 110 201 199 198
173 184 182 124 198 209 211
188 186 178 130 208 183 186
204 201 187 115 186 190 207""",
    ),
    "defocus_blur": (
        1.65,
        1.19,
        """
203 216 129  77 149 182 187
195 185 155 108 194 228 217
199 193 181 113 218 236 224
204 201 197 109 206 205 203
177 189 186 126 202 216 217
193 190 183 132 214 189 193
210 207 193 113 192 196 215""",
    ),
    "glass_blur": (
        2.20,
        2.11,
        """
202 219 135  73 140 180 186
194 184 155 104 188 222 216
199 193 184 113 210 237 226
204 200 202 108 205 208 201
177 189 192 123 195 215 216
192 187 186 130 211 191 191
209 205 198 113 189 195 212""",
    ),
    "motion_blur": (
        1.66,
        2.30,
        """
207 213 106  83 163 183 187
193 183 141 117 205 231 213
198 193 164 125 230 233 227
203 202 178 126 208 203 205
179 192 172 137 207 216 219
189 193 170 145 216 186 197
209 207 174 124 197 199 213""",
    ),
    "zoom_blur": (
        3.00,
        1.72,
        """
200 205 122  82 151 189 193
196 186 157 106 193 229 229
197 193 179 111 211 238 222
204 201 192 105 206 205 201
182 194 185 120 196 215 216
183 188 176 130 215 197 188
205 204 187 119 196 196 207""",
    ),
    "snow": (
        4.64,
        3.25,
        """
255 255 202 155 221 237 242
255 249 227 191 241 253 251
255 255 241 195 252 255 254
255 255 245 167 251 251 248
237 241 241 207 250 254 254
242 243 240 215 254 252 253
254 253 244 193 249 252 255""",
    ),
    "frost": (
        2.32,
        1.42,
        """
255 255 233 196 238 245 246
255 253 244 214 251 254 253
255 255 248 227 254 255 254
255 255 251 219 252 252 250
243 248 246 221 251 254 254
247 248 248 230 254 254 254
255 254 248 217 253 254 255""",
    ),
    "fog": (
        1.65,
        1.37,
        """
105 142 118  88  87  82  85
 99 126 135 127 136 127 113
120 135 159 161 185 157 134
164 157 161 172 210 179 147
157 151 159 174 210 193 179
119 122 146 166 199 181 172
104 122 138 141 168 153 148""",
    ),
    "brightness": (
        3.74,
        2.69,
        """
254 252 188 141 203 188 190
254 247 223 177 234 240 224
253 253 236 185 248 250 237
250 252 244 178 229 212 211
193 211 206 195 217 237 242
209 203 204 200 248 237 242
240 232 225 182 243 243 248""",
    ),
    "contrast": (
        0.95,
        0.72,
        """
188 191 173 163 178 184 185
187 184 179 169 186 193 191
188 186 184 170 191 195 193
189 188 187 169 189 189 188
183 185 185 172 188 191 191
186 186 184 174 191 186 186
190 189 186 170 186 187 191""",
    ),
    "elastic_transform": (
        3.99,
        3.17,
        """
204 222 147  73 132 182 187
193 183 160 105 185 229 227
200 194 185 110 208 238 218
206 199 203 104 198 203 204
180 192 193 121 200 219 215
184 187 183 130 214 189 191
210 205 194 114 193 197 215""",
    ),
    "pixelate": (
        3.26,
        2.48,
        """
204 218 129  78 151 182 187
195 184 156 109 194 229 218
200 194 181 114 219 237 225
205 201 198 107 209 206 204
177 189 187 124 204 217 218
194 191 184 131 217 190 193
210 208 194 113 193 196 215""",
    ),
    "jpeg_compression": (
        4.79,
        3.56,
        """
204 219 128  77 150 180 187
195 185 157 109 194 228 218
200 194 181 114 219 237 224
206 202 198 108 210 205 205
178 188 187 123 203 217 216
194 191 184 132 216 189 193
210 207 193 113 193 196 215""",
    ),
}


def photograph() -> Image.Image:
    """The shipped photograph of a building."""
    return load_benchmark("samples", "zs_photo").images[INDEX]


def described(kind: str) -> tuple[Float[np.ndarray, "7 7"], float, float]:
    """Means of squares, and mean steps across and down."""
    pixels = np.asarray(Corruption(kind, SEVERITY)(photograph(), INDEX), float).mean(2)
    across, down = (float(np.abs(np.diff(pixels, axis=axis)).mean()) for axis in (1, 0))
    return pixels.reshape(7, 32, 7, 32).mean((1, 3)), across, down


def table() -> str:
    """The entries of `PICTURES`."""
    text = ""
    for kind in KINDS:
        squares, across, down = described(kind)
        rows = "".join("\n" + " ".join(f"{value:3.0f}" for value in row) for row in squares)
        text += f'    "{kind}": ({across:.2f}, {down:.2f}, """{rows}"""),\n'
    return text


def test_the_table_is_of_this_version() -> None:
    assert VERSION == 1
    assert list(PICTURES) == list(KINDS)


@pytest.mark.parametrize("kind", PICTURES)
def test_a_photograph_looks_as_it_did(kind: str) -> None:
    across, down, rows = PICTURES[kind]
    expected = np.array(rows.split(), float).reshape(7, 7)
    squares, found_across, found_down = described(kind)
    np.testing.assert_allclose(squares, expected, atol=1)
    assert (found_across, found_down) == (pytest.approx(across, abs=0.05), pytest.approx(down, abs=0.05))
